"""What is not a conversation: images, speech, transcriptions, embeddings, moderation; each asked in one request.

``abilities`` says which provider can do what, ``wishes`` what may be wished for. Each function takes an account and the
provider's own name of a model, and gives an ``Answer``.
"""

from fourlane.providers.ai.media.abilities import Ability, refuse_unable
from fourlane.providers.ai.media.embeddings import batches, embed, tokens_of
from fourlane.providers.ai.media.images import image
from fourlane.providers.ai.media.moderation import FREE, moderate
from fourlane.providers.ai.media.speech import speak
from fourlane.providers.ai.media.transcriptions import transcribe
from fourlane.providers.ai.media.wishes import HearWish, ImageWish, SpeechWish, check_image, check_speech

__all__ = [
    "FREE",
    "Ability",
    "HearWish",
    "ImageWish",
    "SpeechWish",
    "batches",
    "check_image",
    "check_speech",
    "embed",
    "image",
    "moderate",
    "refuse_unable",
    "speak",
    "tokens_of",
    "transcribe",
]
