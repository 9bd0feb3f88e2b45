"""What a person paints on a photo, learnt at once."""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator

from segmentation.service.cache import Seen
from segmentation.service.errors import ServiceError, bad_request
from segmentation.service.memory import TAUGHT, Learnt, columns_of
from segmentation.service.painted import PaintedLabels, with_classes
from segmentation.service.state import Service, service_of
from segmentation.service.uploads import check_image, decode, on_disk, unpack_mask

router = APIRouter(prefix="/v1", tags=["memory"])

#: Stands for a pixel that nobody painted.
UNPAINTED = 255


class PackedMask(BaseModel):
    """Rows of bytes, deflated, in base64."""

    model_config = ConfigDict(extra="forbid")

    encoding: str
    dtype: str
    shape: list[int] = Field(min_length=2, max_length=2)
    data: str


class TeachRequest(BaseModel):
    """A photo that was segmented, and what is painted on it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "id": "0" * 32,
                    "classes": ["road", "puddle"],
                    "mask": {"encoding": "deflate", "dtype": "uint8", "shape": [480, 640], "data": "eJz..."},
                }
            ]
        },
    )

    id: str = Field(max_length=64)
    classes: list[str] = Field(min_length=1, max_length=UNPAINTED)
    mask: PackedMask

    @field_validator("classes")
    @classmethod
    def _named(cls, names: list[str]) -> list[str]:
        for name in names:
            if not name.strip() or len(name) > 100 or not name.isprintable():
                raise ValueError("a class needs a name of 1 to 100 printable characters")
        if len(set(names)) < len(names):
            raise ValueError("a class is named twice")
        return names


@router.post("/teach", summary="Learn what is painted on a photo")
async def teach(request: Request, asked: TeachRequest) -> dict[str, Any]:
    """The painted patches enter the memory as an image of their own; DELETE of its number undoes it.

    The mask's values are places in ``classes``, 255 is not painted; new names become classes.
    """
    service = service_of(request)
    began, seen = time.perf_counter(), service.seen(asked.id)
    limit = service.settings.max_pixels
    mask = await service.aside(unpack_mask, asked.mask.model_dump(), limit)
    _check(mask, seen, len(asked.classes))
    learnt = await service.change("teach", partial(_teach, service, seen, asked.classes, mask))
    return {
        "number": learnt.number,
        "patches": learnt.patches,
        "classes": list(learnt.classes),
        "version": learnt.version,
        "milliseconds": round(1000 * (time.perf_counter() - began), 2),
    }


def _check(mask: npt.NDArray[np.uint8], seen: Seen, classes: int) -> None:
    height, width = seen.description.size
    if mask.shape != (height, width):
        raise bad_request(
            f"the mask is {mask.shape[0]} high and {mask.shape[1]} wide, but the photo is {height} high and "
            f"{width} wide"
        )
    values = np.unique(mask)
    if ((values >= classes) & (values != UNPAINTED)).any():
        raise bad_request(f"the mask holds values that are no place in classes (0..{classes - 1}, or 255)")
    if (values == UNPAINTED).all():
        raise ServiceError(422, "nothing_labelled", "nothing is painted")


def _teach(service: Service, seen: Seen, names: list[str], painted: npt.NDArray[np.uint8]) -> Learnt:
    mask = np.where(painted == UNPAINTED, -1, painted.astype(np.int32))
    used = [name for place, name in enumerate(names) if (mask == place).any()]
    mask = columns_of_used(mask, names, used)
    id = f"{TAUGHT}{seen.id[:12]}-{secrets.token_hex(3)}"
    photo = decode(seen.content, service.settings.max_pixels)
    learnt = service.memory.teach(seen, photo, used, mask, id)
    return learnt if learnt is not None else _describe_again(service, seen, used, mask, id)


def columns_of_used(mask: npt.NDArray[np.int32], names: list[str], used: list[str]) -> npt.NDArray[np.int32]:
    """The mask with places in ``used``, the names that are painted: no class comes of a name alone."""
    table = np.array([*(used.index(name) if name in used else -1 for name in names), -1], dtype=np.int32)
    found: npt.NDArray[np.int32] = table[mask]
    return found


def _describe_again(
    service: Service, seen: Seen, names: list[str], mask: npt.NDArray[np.int32], id: str
) -> Learnt:
    """Learn where the memory's patches lie otherwise than photos' (``image.scale``, ``bank.shifts``)."""
    memory = service.memory
    if memory.segmenter.recipe.bank.protocol == "hummingbird":
        raise ServiceError(
            409, "unpainted", "this memory takes pixels without a label for its first class; add a whole mask"
        )
    classes = with_classes(memory.last.classes, names)
    labels = PaintedLabels(columns_of(mask, names, classes))
    with on_disk(seen.content, check_image(seen.content, service.settings.max_pixels)) as image:
        return memory.learn(image, labels, id, replace_known=False, classes=classes)
