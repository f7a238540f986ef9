"""A client for `allmrec serve`: what the library answers, over HTTP, with the library's own types and errors."""

from allmrec.client.awaiting import AsyncClient
from allmrec.client.blocking import Client
from allmrec.client.wire import ServedItem, ServedRecommendations

__all__ = ["AsyncClient", "Client", "ServedItem", "ServedRecommendations"]
