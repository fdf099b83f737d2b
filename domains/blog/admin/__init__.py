from domains.blog.admin.comments import CommentAdmin
from domains.blog.admin.filing import CategoryAdmin, TagAdmin
from domains.blog.admin.pictures import MediaAdmin
from domains.blog.admin.posts import PostAdmin

__all__ = ["CategoryAdmin", "CommentAdmin", "MediaAdmin", "PostAdmin", "TagAdmin"]
