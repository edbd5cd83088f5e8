from eventferry import Context, RecordedEvent


def send(event: RecordedEvent, context: Context) -> None:
    """Mails are rows here: they commit together with the checkpoint, or not at all."""
    recipient = event.data.get("email", "").lower()
    context.connection.execute(
        "INSERT INTO mails (event_id, user_id, recipient, subject) VALUES (%s, %s, %s, %s)",
        (event.id, event.entity_id, recipient, f"About your {event.type}"),
    )
