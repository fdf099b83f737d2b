from rest_framework.routers import SimpleRouter

from domains.pantry import api

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("categories", api.CategoryViewSet, basename="foodfolio-category")
router.register("locations", api.LocationViewSet, basename="foodfolio-location")
router.register("companies", api.CompanyViewSet, basename="foodfolio-company")
router.register("types", api.TypeViewSet, basename="foodfolio-type")
router.register("sizes", api.SizeViewSet, basename="foodfolio-size")
router.register("warehouses", api.WarehouseViewSet, basename="foodfolio-warehouse")
router.register("items", api.ItemViewSet, basename="foodfolio-item")
router.register("variants", api.VariantViewSet, basename="foodfolio-variant")
router.register("details", api.PieceViewSet, basename="foodfolio-piece")
router.register("shoppinglists", api.ShoppingListViewSet, basename="foodfolio-shoppinglist")
router.register("shoppinglist-entries", api.EntryViewSet, basename="foodfolio-shoppinglist-entry")

urlpatterns = router.urls
