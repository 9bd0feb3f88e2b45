"""The routes, a file for each part of the contract."""

from segmentation.service.routes import (
    explore,
    images,
    jobs,
    label_studio,
    page,
    segment,
    status,
    teach,
)

#: All of them.
ROUTERS = tuple(
    module.router for module in (status, page, segment, images, teach, explore, jobs, label_studio)
)
