from rest_framework.routers import SimpleRouter

from domains.warcraft.api import (
    CharacterViewSet,
    FactionViewSet,
    GuildViewSet,
    PlayableClassViewSet,
    RaceViewSet,
)

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("characters", CharacterViewSet, basename="warcraft-character")
router.register("guilds", GuildViewSet, basename="warcraft-guild")
router.register("factions", FactionViewSet, basename="warcraft-faction")
router.register("races", RaceViewSet, basename="warcraft-race")
router.register("classes", PlayableClassViewSet, basename="warcraft-class")

urlpatterns = router.urls
