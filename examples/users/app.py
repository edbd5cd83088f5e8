"""Users register here; other services learn of it by the event `UserRegistered`."""

import os
from pathlib import Path
from uuid import UUID, uuid4

from fastapi import FastAPI, HTTPException
from psycopg.errors import UniqueViolation
from psycopg.rows import class_row
from pydantic import BaseModel

from eventferry import Event
from eventferry.fastapi import AsyncTransaction, EventFerry

ferry = EventFerry(
    Path(__file__).with_name("projections.toml"),
    worker="EMBEDDED_WORKER" in os.environ,  # else `eventferry worker` runs beside the app
)
app = FastAPI(title="users", lifespan=ferry.lifespan)
app.add_route("/readyz", ferry.readyz)


class NewUser(BaseModel):
    name: str
    email: str


class User(NewUser):
    id: UUID


@app.post("/users", status_code=201)
async def register(new: NewUser, transaction: AsyncTransaction) -> User:
    user = User(id=uuid4(), name=new.name, email=new.email)
    try:
        await transaction.connection.execute(
            "INSERT INTO users (id, name, email) VALUES (%s, %s, %s)",
            [user.id, user.name, user.email],
        )
    except UniqueViolation:
        raise HTTPException(409, f"{user.email} is registered already") from None
    event = Event("UserRegistered", new.model_dump(), entity_id=str(user.id))
    await transaction.append("users-stream", event, expected_version=0)
    return user


@app.get("/users/{user_id}")
async def show(user_id: UUID, transaction: AsyncTransaction) -> User:
    async with transaction.connection.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute("SELECT id, name, email FROM users WHERE id = %s", [user_id])
        user = await cursor.fetchone()
    if user is None:
        raise HTTPException(404, f"there is no user {user_id}")
    return user
