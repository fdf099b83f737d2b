from domains.pantry.admin import goods, kitchen, pieces, shopping

__all__ = ["goods", "kitchen", "pieces", "shopping"]
