"""The peer: an endpoint and a Celery worker that do the same failover job; run in a virtual environment of its own."""

from __future__ import annotations

import os
import ssl
import time
from typing import Any

import httpx
from celery import Celery
from celery.result import AsyncResult
from fastapi import FastAPI
from pydantic import BaseModel

FAL = os.environ["FAL_API_URL"]
REPLICATE = os.environ["REPLICATE_BASE_URL"]

worker = Celery("peer", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
api = FastAPI()
client = httpx.Client(verify=ssl.create_default_context(), trust_env=False, timeout=60)


class Requested(BaseModel):
    """The request of a client."""

    prompt: str


@worker.task
def make(prompt: str) -> str:
    """Have fal make it, or else Replicate; returns the URL of the output."""
    answer = client.post(f"{FAL}/fal-ai/stable-audio", json={"prompt": prompt})
    if answer.is_success:
        return str(answer.json()["request_id"])
    model = f"{REPLICATE}/v1/models/stability-ai/stable-audio-2.5/predictions"
    run = client.post(model, json={"input": {"prompt": prompt}}).raise_for_status().json()
    while run["status"] != "succeeded":
        time.sleep(0.001)
        run = client.get(run["urls"]["get"]).raise_for_status().json()
    return str(run["output"])


@api.post("/jobs", status_code=202)
def submit(requested: Requested) -> dict[str, str]:
    """Take a job on."""
    return {"job_id": make.delay(requested.prompt).id}


@api.get("/jobs/{job_id}")
def job(job_id: str) -> dict[str, Any]:
    """The state of a job."""
    return {"status": AsyncResult(job_id, app=worker).status}
