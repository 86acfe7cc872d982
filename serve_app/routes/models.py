"""GET /api/v1/models: what can be asked for."""

from fastapi import APIRouter
from starlette.responses import Response

from .. import present
from ..answers import respond
from ..auth import Reader, Wired
from ..schemas import ModelList, errors

router = APIRouter(prefix="/api/v1", tags=["models"])


@router.get("/models", response_model=ModelList, responses=errors(503))
async def list_models(services: Wired, _principal: Reader) -> Response:
    models = await services.llm.models()
    return respond(ModelList(data=[present.model(info) for info in models], default=services.llm.default_model))
