"""What this service does about events; projections.toml says which function gets which."""

from eventferry import Context, EventMapper, RecordedEvent


class UserRegistered(EventMapper):
    @property
    def email(self) -> str:
        return str(self.get("email"))


def welcome(event: RecordedEvent, context: Context) -> None:
    """Happens once for each event: what is written here commits together with the checkpoint."""
    user = UserRegistered(event)
    context.connection.execute("INSERT INTO welcomes (email) VALUES (%s)", [user.email])
