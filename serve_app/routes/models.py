"""GET /api/v1/models: what can be asked for."""

from fastapi import APIRouter
from starlette.responses import Response

from actors.core.clock import rfc3339

from .. import present
from ..answers import respond
from ..auth import Reader, Wired
from ..schemas import ModelList, errors

router = APIRouter(prefix="/api/v1", tags=["models"])


@router.get("/models", response_model=ModelList, responses=errors(503))
async def list_models(services: Wired, _principal: Reader) -> Response:
    models = await services.llm.models()
    listed_at = max((info.listed_at for info in models if info.listed_at), default=None)
    return respond(
        ModelList(
            data=[present.model(info) for info in models],
            default=services.llm.default_model,
            listed_at=listed_at and rfc3339(listed_at),
        )
    )
