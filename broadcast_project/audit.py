"""Whose rows the audit watches, for their services do not tell all that people do to them."""

from django.contrib.auth.models import Group, User
from django_q.models import Schedule

from broadcasts.models import Broadcast, Product, Rule, Series, Template
from deliveries.models import Endpoint
from domains.blog.models import Category, Comment, Media, Post, Tag
from domains.links.models import Link
from domains.pantry import models as pantry
from domains.twitch.models import Command
from domains.warcraft.models import Character, Guild
from operations.audit.rows import watch
from operations.models import ApiKey

for model, noun in {
    User: "user",
    Group: "group",
    Schedule: "schedule",
    Template: "template",
    Product: "product",
    Category: "blog.category",
    Tag: "blog.tag",
    Media: "blog.media",
    Post: "blog.post",
    pantry.Company: "foodfolio.company",
    pantry.Item: "foodfolio.item",
    pantry.Variant: "foodfolio.variant",
    pantry.Category: "foodfolio.category",
    pantry.Location: "foodfolio.location",
    pantry.ItemType: "foodfolio.type",
    pantry.Size: "foodfolio.size",
    pantry.Warehouse: "foodfolio.warehouse",
    pantry.ShoppingList: "foodfolio.list",
    pantry.Entry: "foodfolio.entry",
    Command: "twitchbot.command",
    Character: "warcraft.character",
    Guild: "warcraft.guild",
}.items():
    watch(model, noun)

for model, noun in {
    Broadcast: "broadcast",
    Endpoint: "endpoint",
    ApiKey: "key",
    Link: "link",
}.items():
    watch(model, noun, verbs=["created", "deleted"])

watch(Series, "series", verbs=["deleted"])
watch(Rule, "rule", verbs=["deleted"])
watch(Comment, "blog.comment", verbs=["deleted"])
watch(pantry.Piece, "foodfolio.piece", verbs=["changed", "deleted"])
