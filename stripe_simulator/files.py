"""Files: uploaded as multipart forms, downloaded as they were."""

from __future__ import annotations

from dataclasses import dataclass

from stripe_simulator.call import Call
from stripe_simulator.downloads import Download, pieces_of
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.events import record_event
from stripe_simulator.forms import Upload
from stripe_simulator.lists import page

PURPOSES = (
    "account_requirement",
    "additional_verification",
    "business_icon",
    "business_logo",
    "customer_signature",
    "dispute_evidence",
    "finance_report_run",
    "financial_account_statement",
    "identity_document",
    "identity_document_downloadable",
    "issuing_regulatory_reporting",
    "pci_document",
    "platform_terms_of_service",
    "selfie",
    "sigma_scheduled_query",
    "tax_document_user_upload",
    "terminal_android_apk",
    "terminal_reader_splashscreen",
)


@dataclass(slots=True)
class File:
    id: str
    created: int
    purpose: str
    upload: Upload

    def json(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "file",
            "created": self.created,
            "expires_at": None,
            "filename": self.upload.filename,
            "links": {
                "object": "list",
                "data": [],
                "has_more": False,
                "url": f"/v1/file_links?file={self.id}",
            },
            "purpose": self.purpose,
            "size": len(self.upload.content),
            "title": None,
            "type": self.upload.filename.rpartition(".")[2] or None,
            "url": f"https://files.stripe.com/v1/files/{self.id}/contents",
        }


def create(call: Call) -> JsonObject:
    purpose = call.parameters.choice("purpose", PURPOSES)
    if purpose is None:
        raise missing_parameter("purpose")
    upload = call.uploads.get("file")
    if upload is None:
        if "file" in call.parameters:
            raise StripeError(
                400, "Invalid file: it must be sent as a file of a multipart form.", param="file"
            )
        raise missing_parameter("file")
    call.begin()
    file = call.ledger.files.add(File(call.new_id("file"), call.now, purpose, upload))
    record_event(call, "file.created", file.json())
    return file.json()


def _at_path(call: Call) -> File:
    return call.ledger.files.require(call.path_ids[0], param="file")


def retrieve(call: Call) -> JsonObject:
    return _at_path(call).json()


def contents(call: Call) -> Download:
    """The very bytes that were uploaded."""
    upload = _at_path(call).upload
    return Download(upload.content_type, pieces_of(upload.content), len(upload.content))


def list_files(call: Call) -> JsonObject:
    purpose = call.parameters.text("purpose")
    return page(call, call.ledger.files, lambda file: purpose in (None, file.purpose))
