"""Settings for every test: property tests are judged by what they find, never by how long they take."""

from hypothesis import settings

settings.register_profile("nonceforge", deadline=None)
settings.load_profile("nonceforge")
