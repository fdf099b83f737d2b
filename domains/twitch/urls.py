from rest_framework.routers import SimpleRouter

from domains.twitch import api

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("streams", api.StreamViewSet, basename="twitch-stream")
router.register("messages", api.MessageViewSet, basename="twitch-message")
router.register("viewers", api.ViewerViewSet, basename="twitch-viewer")
router.register("channel-viewers", api.ChannelViewerViewSet, basename="twitch-channel-viewer")
router.register("commands", api.CommandViewSet, basename="twitch-command")
router.register("clips", api.ClipViewSet, basename="twitch-clip")

urlpatterns = router.urls
