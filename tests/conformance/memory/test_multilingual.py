"""Facts told in one language are found from another."""

import pytest

from actors.memory.lance import LanceMemories

FACTS = {
    "dog": "Der Hund von Ana heißt Rex.",
    "work": "A Maria trabalha como enfermeira num hospital em Lisboa.",
    "allergy": "Ich bin gegen Erdnüsse allergisch.",
    "birthday": "O aniversário do Pedro é no dia 12 de maio.",
    "car": "Unser Auto ist ein grüner Kombi aus dem Jahr 2015.",
    "coffee": "Prefiro café sem açúcar.",
    "flight": "Der Flug nach Tokio geht am Freitag um sieben Uhr morgens.",
    "house": "A casa de férias fica perto da praia, no Algarve.",
}
QUESTIONS = {
    "dog": "What is the name of Ana's dog?",
    "work": "What does Maria do for a living?",
    "allergy": "Which foods must I avoid because of an allergy?",
    "birthday": "When is Pedro's birthday?",
    "car": "What colour is our car?",
    "coffee": "How do I take my coffee?",
    "flight": "When does the plane to Tokyo leave?",
    "house": "Where is the holiday home?",
}


@pytest.fixture
async def facts(e5, uri, make_memory):
    store = LanceMemories(uri, e5, timeout_s=60)
    for fact, text in FACTS.items():
        await store.remember(make_memory(text, id=f"mem_{fact}"))
    yield store
    await store.aclose()


async def test_english_questions_find_german_and_portuguese_facts(facts):
    nearest = {}
    for fact, question in QUESTIONS.items():
        found = await facts.recall("user_1", question, limit=1)
        nearest[fact] = found[0].memory.id.removeprefix("mem_")
    assert nearest == {fact: fact for fact in FACTS}
