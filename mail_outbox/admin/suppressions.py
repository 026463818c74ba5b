"""The list of addresses not to write to, in the admin: look one up, put one on it, take one off it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from mail_outbox import outbox
from mail_outbox.admin.list import CappedPaginator
from mail_outbox.admin.rights import ReadOnly
from mail_outbox.conf import get_conf
from mail_outbox.core.addresses import parse
from mail_outbox.core.errors import InvalidMessage
from mail_outbox.models import Suppression


class SuppressionForm(forms.ModelForm):
    """An address, why, and until when."""

    class Meta:
        model = Suppression
        fields = ("address", "reason", "until")
        help_texts = {"until": _("Empty: for ever.")}

    def clean_address(self) -> str:
        """Return the address normalised."""
        try:
            address = parse(self.cleaned_data["address"])
        except InvalidMessage as error:
            raise ValidationError(str(error)) from error
        if "@" not in address:
            raise ValidationError(_("An address has a domain."))
        return address

    def _get_validation_exclusions(self) -> set[str]:
        # An address that is there already is no mistake: it gets the new reason and end.
        return {*super()._get_validation_exclusions(), "address"}  # type: ignore[misc]  # the stubs miss it


class SuppressionAdmin(ReadOnly, admin.ModelAdmin):
    """Whoever may view the list and operate the mailers may put addresses on it and take them off."""

    form = SuppressionForm
    list_display = ("address", "reason", "since", "until")
    ordering = ("-pk",)
    sortable_by = ()
    show_full_result_count = False
    paginator = CappedPaginator
    search_fields = ("address",)
    search_help_text = _("The whole address; it is found under its pseudonym, too.")

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Say yes to whoever operates the mailers."""
        return self.has_view_permission(request) and bool(request.user.has_perm("mail_outbox.operate_mailers"))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Say yes to the same."""
        return self.has_add_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the list of the first outbox; the verbs keep all of them alike."""
        return super().get_queryset(request).using(get_conf().databases[0])

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find exactly this address: parts of it would be a scan, and a way to guess."""
        term = search_term.replace("\0", "").strip()
        return (queryset & Suppression.objects.using(queryset.db).of(term) if term else queryset), False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 (Django's)
        """Suppress the address."""
        outbox.suppress(obj.address, reason=obj.reason, until=obj.until)
        saved = self.get_queryset(request).get(address=obj.address)
        obj.pk, obj.since = saved.pk, saved.since

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Let mail go to the address again."""
        outbox.unsuppress(obj.address)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Do so with all of them."""
        for suppression in queryset:
            self.delete_model(request, suppression)
