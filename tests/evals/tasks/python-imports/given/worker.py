from iii import Logger, State, Worker, serve

worker = Worker(name="notes")
state = State(worker, scope="app::notes")
log = Logger(worker)


@worker.function("notes::add")
async def add(user: str, text: str) -> dict:
    """Add a note; how many the user has then."""
    count = await state.list_push(user, text)
    log.info(f"{user} has {count} notes")
    return {"n": count}


@worker.function("notes::list")
async def list_notes(user: str) -> dict:
    """The notes of a user, the oldest first."""
    return {"notes": await state.list_range(user, 0, -1)}


@worker.function("notes::clear")
async def clear(user: str) -> dict:
    """Remove all notes of a user, and give them."""
    return {"removed": await state.pop(user, default=[])}


serve(worker)
