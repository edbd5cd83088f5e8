"""Where the views are."""

from django.urls import path

from shop import views

urlpatterns = [
    path("customers", views.customers),
    path("orders", views.place),
    path("orders/<uuid:order_id>", views.show),
]
