"""Known-answer worlds: data sets small enough that the right recommendation is provable."""

from __future__ import annotations

import numpy as np

from allmrec.data.interactions import InteractionDataset

__all__ = ["THEMES", "mixed_world", "ring_world", "taste_world", "title_world"]

THEMES = (
    "jazz trumpet record", "horror vampire film", "garden tulip bulb", "football training shirt",
    "chocolate birthday cake", "astronomy telescope guide", "wooden sailing boat", "wedding dress lace",
    "motorcycle engine oil", "kitten cat food",
)  # fmt: skip

# Titles that say nothing of a taste: words and pieces of words, drawn from a tokenizer's vocabulary. Unlike numbers they differ
# from the first token on, so that a title can be told by its beginning.
_WORDS = (
    "Agreement", "Photography", "Classification", "Dental", "Survival", "Switzerland", "Gates", "White", "Astronomy",
    "Performance", "Those", "Convention", "Alabama", "Order", "Portland", "Oriental", "Hamlet", "Pittsburgh",
    "Recomm", "Monument", "Agricult", "Chang", "Explain", "Norse", "Governments", "Charl", "Writing", "Messiah",
    "Britann", "Buddhism", "Product", "Exchange", "Greenland", "Anyone", "Develop", "Theore", "Determine", "Sullivan",
    "Alber", "Evaluate", "Afterward", "Junior", "Mormon", "Customer", "Media", "Imagine", "Commerce", "Sites",
    "Prepar", "Implementing", "Adventures", "Large", "Community", "Rehabilitation", "Constitution", "Offer",
    "Personal", "Random", "Ramadan", "Norway", "Department", "Colon", "Labor", "Could", "Routledge", "Clean", "Veget",
    "Nepal", "Catholicism", "Reddit", "Lodge", "November", "Patent", "Video", "Empower", "Palace", "Engineer",
    "Average", "Incre", "Opportunity", "Assembly", "Enterprise", "Philosophy", "Based", "Catholics", "Relationships",
    "Farmers", "Puerto", "Considering", "Richmond", "Manufacturing", "Optim", "Nigeria", "Edmund", "Dickens",
    "Filter", "Korean", "Ralph", "Danish", "Ranch", "Basin", "Thanks", "Marie", "Perhaps", "Australia",
    "Disabilities", "Association", "Muhammad", "Baltic", "Institute", "Especially", "Victor", "Gross", "Friedrich",
    "Americans", "Jerusalem", "Healing", "Agriculture", "Printing", "Leban", "Credit", "Square", "Johannes", "Impro",
    "Workshe", "Tests", "Perfect", "Johns", "Integrating", "Config", "Processes", "Changes", "Therapy", "Above",
    "January", "Iceland", "Chronic", "Partners", "Logic", "Convert", "Seven", "Neural", "Since", "Royal", "Networks",
    "Notably", "Living", "Stein", "Frances", "Consider", "Kansas", "Sciences", "Unlike", "Significance", "Sched",
    "Typically", "Indiana", "Reducing", "Below", "Nothing",
)  # fmt: skip


def taste_world(
    users: int = 200, tastes: int = 10, items_per_taste: int = 12, length: int = 9, seed: int = 0
) -> InteractionDataset:
    """Titles say nothing ("Item 17"); every user sticks to one taste, which only collaboration can show.

    A system that has learned the tastes is right whenever no negative shares the target's taste.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(tastes * items_per_taste)
    sequences = {}
    for user in range(users):
        own = numbers[(user % tastes) * items_per_taste :][:items_per_taste]
        sequences[f"u{user}"] = [f"i{n}" for n in rng.permutation(own)[:length]]
    items = [f"i{n}" for n in range(tastes * items_per_taste)]
    return InteractionDataset.from_sequences(
        sequences, items=items, titles={f"i{n}": f"Item {n}" for n in range(len(items))}
    )


def ring_world(users: int = 80, items: int = 40, length: int = 12, seed: int = 0) -> InteractionDataset:
    """Item i is always followed by i + 1 and the last by the first, which only a model of order can know.

    Items of a user's history are never negatives in training, so a model says nothing about them: rank all others.
    """
    starts = np.random.default_rng(seed).integers(0, items, users)
    names = [f"{number:03d}" for number in range(items)]
    named = {f"u{n}": [names[(start + step) % items] for step in range(length)] for n, start in enumerate(starts)}
    return InteractionDataset.from_sequences(named, items=names)


def title_world(users: int = 200, length: int = 6, seed: int = 0) -> InteractionDataset:
    """Every item is met by one user only, so collaboration shows nothing; its title tells the theme, users keep to one.

    A system that reads titles, or vectors made of them, is right whenever no negative shares the target's theme.
    """
    rng = np.random.default_rng(seed)
    sequences: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for user in range(users):
        theme = THEMES[int(rng.integers(len(THEMES)))]
        sequences[f"u{user}"] = [f"u{user}i{n}" for n in range(length)]
        titles |= {item: f"{theme} {int(rng.integers(100, 1000))}" for item in sequences[f"u{user}"]}
    return InteractionDataset.from_sequences(sequences, titles=titles)


def mixed_world(
    users: int = 200, tastes: int = 10, items_per_taste: int = 16, length: int = 10, themed: int = 6, seed: int = 0
) -> InteractionDataset:
    """Half of the users live in a `taste_world`, half in a `title_world`: neither collaboration nor titles know both.

    Users of even number stick to a taste, whose items have words for titles that say nothing of it; users of odd number keep to
    a theme, which only titles show. Among candidates of the user's own half a system that knows collaboration alone is right
    about the first, one that reads alone about the second. (Among all items titles tell the halves apart, which is half of the
    answer.)

    Args:
        users: of both halves.
        tastes, items_per_taste, length: of the `taste_world`.
        themed: items of a user of the `title_world`.
        seed: draws both halves.
    """
    half = (users + 1) // 2
    tasteful = taste_world(half, tastes, items_per_taste, length, seed)
    themes = title_world(users - half, themed, seed)
    sequences: dict[str, list[str]] = {}
    for number in range(users):
        data, letter = (themes, "b") if number % 2 else (tasteful, "a")
        sequences[f"u{number}"] = [f"{letter}{item}" for item in data.sequence(number // 2).tolist()]
    titles = {f"a{item}": _word(item - 1) for item in range(1, tasteful.n_items + 1)}
    titles |= {f"b{item}": str(themes.catalogue.titles[item]) for item in range(1, themes.n_items + 1)}
    return InteractionDataset.from_sequences(sequences, items=list(titles), titles=titles)


def _word(number: int) -> str:
    """A word of its own for each number, with a number behind it where words run out."""
    again, place = divmod(number, len(_WORDS))
    return _WORDS[place] if not again else f"{_WORDS[place]} {again + 1}"
