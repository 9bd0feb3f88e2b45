"""Bodies and answers that the description of the interface shows by example."""

from __future__ import annotations

from typing import Any

_PACKED = {"encoding": "deflate", "dtype": "uint8", "shape": [2, 3], "data": "eAFjYGBkYgYAABEACA=="}
_FILE = {"type": "string", "format": "binary"}
_ERROR = {"error": {"code": "too_large", "message": "the upload has more than 33,554,432 bytes, the limit"}}

#: One photo: a form's field ``image``, or the body itself.
PHOTO_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["image"], "properties": {"image": _FILE}}
            },
            "image/jpeg": {"schema": _FILE},
            "image/png": {"schema": _FILE},
        },
    }
}


def form_body(required: list[str], **fields: dict[str, Any]) -> dict[str, Any]:
    """A form with these fields."""
    schema = {"type": "object", "required": required, "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


#: A photo and its mask, and perhaps its name.
LABELLED_BODY = form_body(["image", "mask"], image=_FILE, mask=_FILE, name={"type": "string"})
#: Many photos.
PHOTOS_BODY = form_body(["image"], image={"type": "array", "items": _FILE})

_SEGMENTED = {
    "id": "9f86d081884c7d659a2feaa0c55ad015",
    "width": 3,
    "height": 2,
    "classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}],
    "mask": _PACKED,
    "confidence": _PACKED,
    "shares": {"road": 1.0},
    "milliseconds": {"features": 180.2, "search": 12.9, "total": 195.0},
    "version": "17",
}

#: How every route may refuse.
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": about, "content": {"application/json": {"example": _ERROR}}}
    for status, about in {
        400: "The request cannot be read",
        401: "A key is wanted",
        403: "The key, the host or the origin may not do this",
        404: "What is asked for is not there (any more)",
        409: "The memory does not allow it",
        413: "Too many bytes or pixels",
        415: "No image, or a body of another kind",
        422: "A damaged image, or values out of range",
        429: "Too many requests wait; see Retry-After",
        503: "The service starts or stops",
        504: "It waited too long",
    }.items()
}

#: What segmenting gives.
SEGMENT_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The mask, in the format asked for",
        "content": {
            "application/json": {"example": _SEGMENTED},
            "image/png": {"schema": _FILE},
        },
    },
}
