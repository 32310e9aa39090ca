"""What people without the App look at: findings as one HTML page, a table and JSON. No dataset."""
