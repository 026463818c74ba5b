"""The order form."""

from django import forms

from example_project.shop.models import Order


class OrderForm(forms.ModelForm):
    """Who wants what; filled in already, because this is a demonstration."""

    template_name = "shop/fields.html"

    class Meta:
        model = Order
        fields = ["customer", "email", "article"]
        labels = {"customer": "Your name", "email": "Your e-mail address"}
        widgets = {
            "customer": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
        }


GUEST = {"customer": "Ada Lovelace", "email": "ada@example.com"}
