"""How questions about pictures are worded."""

# {a} and {b} are things, {c} a colour, {s} a shape. Both spellings of colour are understood.
PHRASES: dict[str, tuple[str, ...]] = {
    "background": (
        "What colour is the background?",
        "Which colour is the background?",
        "What is the background colour?",
        "What is the colour of the background?",
        "Name the background colour.",
    ),
    "colour": (
        "What colour is {a}?",
        "Which colour is {a}?",
        "What is the colour of {a}?",
        "Name the colour of {a}.",
        "Tell me the colour of {a}.",
    ),
    "shape": (
        "What shape is {a}?",
        "Which shape is {a}?",
        "What is {a}?",
        "What is the shape of {a}?",
        "What kind of shape is {a}?",
    ),
    "existence": (
        "Is there {a}?",
        "Do you see {a}?",
        "Can you see {a}?",
        "Is there {a} in the picture?",
        "Does the picture show {a}?",
        "Is {a} in the picture?",
    ),
    "count": (
        "How many {a} are there?",
        "How many {a} do you see?",
        "How many {a} are in the picture?",
        "Count the {a}.",
        "What is the number of {a}?",
    ),
    "position": (
        "Where is {a}?",
        "Where in the picture is {a}?",
        "In which part of the picture is {a}?",
        "What is the position of {a}?",
    ),
    "relation": (
        "Is {a} {r} {b}?",
        "Do you see {a} {r} {b}?",
        "Is it true that {a} is {r} {b}?",
    ),
    "larger": (
        "Which is larger, {a} or {b}?",
        "Which is bigger, {a} or {b}?",
        "What is larger: {a} or {b}?",
        "Which one is larger, {a} or {b}?",
    ),
    "reading": (
        "What does the text say?",
        "What is written in the picture?",
        "What is written there?",
        "Read the text.",
        "What text do you see?",
        "What does it say?",
        "Which {k} is written in the picture?",
        "What {k} do you see?",
        "Read the {k}.",
    ),
    "description": (
        "Describe the picture.",
        "What do you see?",
        "What is in the picture?",
        "What is in this image?",
        "What does the picture show?",
    ),
}

TWO_PICTURES: dict[str, tuple[str, ...]] = {
    "same background": (
        "Do both pictures have the same background colour?",
        "Is the background the same in both pictures?",
    ),
    "which has": (
        "Which picture shows {a}?",
        "Which picture has {a}?",
        "In which picture is {a}?",
    ),
    "more": (
        "Which picture has more shapes?",
        "Which picture shows more shapes?",
        "In which picture are there more shapes?",
    ),
}
