"""What a turn costs without Greenroom: a bare FastAPI route that asks the same model server the same thing.

No journal, no session, no ledger, no tools: the floor that Greenroom's figures stand beside.
"""

import json
import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.responses import StreamingResponse


def create(model_url: str) -> FastAPI:
    app = FastAPI()
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=1000), timeout=30)

    async def lines(message: str) -> AsyncIterator[str]:
        body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": message}]}
        async with client.stream("POST", f"{model_url}/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield line.removeprefix("data: ")

    @app.post("/chat")
    async def chat(body: dict[str, str]) -> dict[str, str]:
        text: list[str] = []
        async for line in lines(body["message"]):
            for choice in json.loads(line)["choices"]:
                text.append(choice["delta"].get("content") or "")
        return {"message": "".join(text)}

    @app.post("/stream")
    async def stream(body: dict[str, str]) -> StreamingResponse:
        async def frames() -> AsyncIterator[str]:
            async for line in lines(body["message"]):
                yield f"data: {line}\n\n"

        return StreamingResponse(frames(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    uvicorn.run(create(sys.argv[1]), port=int(sys.argv[2]), log_level="error", access_log=False)
