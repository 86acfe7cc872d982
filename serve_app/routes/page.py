"""The chat page and the page of costs: files of `serve_app/ui`, without a build step."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

UI = Path(__file__).parent.parent / "ui"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> FileResponse:
    return FileResponse(UI / "index.html", media_type="text/html")


@router.get("/costs")
async def costs() -> FileResponse:
    return FileResponse(UI / "costs.html", media_type="text/html")


@router.get("/favicon.ico")
async def favicon() -> FileResponse:
    return FileResponse(UI / "icon.svg", media_type="image/svg+xml")


def mount(app: FastAPI) -> None:
    app.mount("/ui", StaticFiles(directory=UI), name="ui")
    app.include_router(router)
