"""Original English made by seeded code: messages, questions, passages, endings and chats of a wanted length.

The same seed gives the same text on every machine; nothing is read from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Count = Callable[[str], int]
"""How many tokens a text has."""


def cut(text: str) -> tuple[str, ...]:
    """The parts of a text between commas."""
    return tuple(text.split(","))


PEOPLE = cut("Amira,Jonas,Teresa,Viktor,Mei,Olu,Hanna,Rafael,Sigrid,Dev,Carla,Piotr,Noor,Emile,Yara,Tomas")
PLACES = cut(
    "the harbour office,the old mill,platform nine,the garden centre,the night market,a farm near the river,"
    "the school library,the repair shop,the third floor,the ferry terminal,a small bakery,the town archive"
)
THINGS = cut(
    "ladder,parcel,ledger,lamp,bicycle,blue folder,water pump,kettle,map,sewing machine,radio,key,basket,"
    "telescope,ticket,ring,notebook,umbrella,drill,violin,crate of apples,wooden door,engine,letter"
)
DEEDS = cut(
    "carried,repaired,lost,found,sold,painted,weighed,hid,measured,cleaned,borrowed,returned,wrapped,opened,"
    "counted,delivered,dropped,described,labelled,inspected"
)
WHEN = cut(
    "early on Monday,after the rain had stopped,before anyone else arrived,late in the evening,during the break,"
    "on the last day of the month,while the others were asleep,shortly after lunch,in the middle of winter"
)
BECAUSE = cut(
    "because the buyer was waiting,although nobody had asked for it,so that the shelf would be free,"
    "and wrote the price on a slip of paper,and told the manager about it,but left the receipt on the counter,"
    "because the lock had been changed,and then went home without a word,so the work could go on"
)
AGAIN = cut(
    "It took longer than planned.,The neighbours noticed nothing.,Nobody could say how old it was.,"
    "The bill came to forty-two coins.,Everything had to be done twice.,The weather did not help.,"
    "That was the end of the matter.,The second attempt went better.,A child watched from the window."
)
COMPLAINTS = cut(
    "The charge on my statement is twice what the shop took,My new card has not come after nine working days,"
    "I was told the transfer would be there by noon,The machine kept my card and gave no money,"
    "The rate in the app is not the one that I paid,I cannot get past the screen that asks for my passcode,"
    "A payment that I never made shows up as pending,The refund was promised a fortnight ago,"
    "I want to put money on the account by cheque,My phone was stolen on the train with the app open"
)
ASKS = cut(
    "what should I do now,can you look into it please,how long will that take,is there a fee for that,"
    "who can tell me more,please put it right,where do I find this in the app,do I have to come in person"
)
SUBJECTS = {
    "metals": cut("copper,iron,silver,zinc,lead,nickel"),
    "instruments": cut("flute,drum,harp,trumpet,violin,cello"),
    "birds": cut("heron,owl,sparrow,falcon,crane,robin"),
    "fabrics": cut("linen,wool,silk,cotton,felt,velvet"),
    "vegetables": cut("leek,carrot,spinach,beetroot,parsnip,onion"),
    "tools": cut("hammer,chisel,plane,saw,pliers,file"),
}
FACTS = cut(
    "What is the capital of France?,What is the opposite of hot?,What colour is a ripe banana?,"
    "How many legs does a spider have?,What is the chemical symbol of water?,Which planet is closest to the sun?,"
    "What is the plural of mouse?,In which country is Mount Fuji?,What do bees make?,How many days has a week?,"
    "What is frozen water called?,Which animal says meow?,What is the capital of Italy?,What is 7 plus 5?,"
    "Which ocean lies west of Portugal?,What is the first month of the year?,Who wrote Hamlet?,What is a young dog "
    "called?,What is the largest ocean?,What is the capital of Japan?,Which season comes after winter?,"
    "What is the boiling point of water in Celsius?,What do we call a baker's oven product?,What is half of ten?"
)
LISTS = cut(
    "Name three colours and say one thing about each.,List five fruits.,List the planets of the solar system.,"
    "Name four animals that live in the sea.,List six European capitals.,Name three uses of salt.,"
    "List the steps to make tea.,Name four musical instruments and how they are played."
)
ESSAYS = cut(
    "Write a long story about a dog and a letter.,Explain in detail why the sky is blue.,Describe how bread is made "
    "from field to table.,Write a long letter to a friend about a journey by train.,Explain how a bicycle works.,"
    "Tell the history of a small fishing village.,Describe a market in the early morning.,Explain how rain forms."
)


def sentence(random: Random) -> str:
    """About 16 words of a story."""
    who, deed, thing = random.choice(PEOPLE), random.choice(DEEDS), random.choice(THINGS)
    article = "an" if thing[0] in "aeiou" else "a"
    return f"{who} {deed} {article} {thing} at {random.choice(PLACES)} {random.choice(WHEN)} {random.choice(BECAUSE)}."


def passage(random: Random, count: Count, tokens: int) -> str:
    """Sentences until there are at least ``tokens`` tokens."""
    found = sentence(random)
    while count(found) < tokens:
        found += " " + (random.choice(AGAIN) if random.random() < 0.25 else sentence(random))
    return found


def fitted(random: Random, count: Count, tokens: int) -> str:
    """A passage, cut behind a word so that it has at most ``tokens`` tokens."""
    words = passage(random, count, tokens).split()
    while count(" ".join(words)) > tokens and len(words) > 1:
        words.pop()
    return " ".join(words)


def message(random: Random) -> str:
    """What a bank's customer writes, about 22 tokens."""
    return f"{random.choice(PEOPLE)} here. {random.choice(COMPLAINTS)}, {random.choice(ASKS)}?"


def quiz(random: Random) -> tuple[str, tuple[str, ...], int]:
    """A question with a short story before it, four answers in random order, and the index of the right one."""
    kinds = random.sample(sorted(SUBJECTS), 4)
    answers = [random.choice(SUBJECTS[kind]) for kind in kinds]
    right = random.randrange(4)
    who = random.choice(PEOPLE)
    question = f"{sentence(random)} {who} asks which of these things belongs to the {kinds[right]}."
    return question, tuple(answers), right


def chat(question: str, marked: bool) -> str:
    """A question as an instruction model reads it; ``marked``: the tokenizer knows the ChatML marks."""
    if marked:
        return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return f"User: {question}\nAssistant:"
