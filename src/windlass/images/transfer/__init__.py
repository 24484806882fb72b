"""Pull and push: the registry client and the content store brought together, with progress as dockerd streams it.

store     what is needed of the content store          progress  messages, meters, the channel to the client
stream    a worker and its messages                    jobs      what several requests want, done once
pull      Puller                                       push      Pusher
"""

from windlass.images.transfer.progress import Message
from windlass.images.transfer.service import Transfers
from windlass.images.transfer.store import LayerPlan, PushImage, TransferStore
from windlass.images.transfer.stream import primed, streaming

__all__ = ["LayerPlan", "Message", "PushImage", "TransferStore", "Transfers", "primed", "streaming"]
