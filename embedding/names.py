"""What models are called."""

ALIASES = {
    "clip": "open_clip:ViT-B-32/laion2b_s34b_b79k",
    "cnn": "timm:tf_efficientnet_lite0",
}


def full_name(name: str) -> str:
    """A model's name without aliases: ``clip`` is ``open_clip:ViT-B-32/laion2b_s34b_b79k``."""
    return ALIASES.get(name, name)


def embeds_texts_only(model: str) -> bool:
    """Whether a model's name is that of one for texts: ``text:…``, ``words:…``."""
    return model.partition(":")[0] in ("text", "words")


def model_of_texts(model: str, text_field: str) -> str:
    """What a model is called as that of a field's texts, whose embeddings mix with no others."""
    return f"{full_name(model)} of {text_field}"
