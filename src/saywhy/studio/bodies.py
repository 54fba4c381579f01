"""The bodies of requests, which the OpenAPI description shows."""

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """The fields that all tasks share."""

    model_config = ConfigDict(extra="forbid")
    image: str = Field(description="The id of an image that was given before.", max_length=64)
    model: str = Field("", description="The name of a model; the first that does the task by default.", max_length=300)
    method: list[str] = Field([], description="Names of methods; the task's default otherwise.", max_length=5)
    layer: str = Field("", description="A layer; found by default.", max_length=300)


class ExplainBody(Body):
    """A request to explain classes."""

    target: list[str] = Field([], description="Classes, contrasts ('cat - dog') and others.", max_length=5)
    top: int = Field(3, ge=1, le=5, description="The number of the model's own classes, without a target.")
    counterfactual: bool = Field(False, description="Explain the evidence against the targets.")
    check: bool = Field(False, description="Test every map.")


class AskBody(Body):
    """A request to answer a question."""

    question: str = Field(description="The question.", min_length=1, max_length=500)
    target: list[str] = Field([], description="Answers to explain; the model's own otherwise.", max_length=5)
    top: int = Field(3, ge=1, le=5, description="The number of the model's own answers.")


class CaptionBody(Body):
    """A request for a caption."""

    text: str = Field("", description="A caption to explain; generated otherwise.", max_length=500)


class CountBody(Body):
    """A request to count."""

    of: list[str] = Field([], description="Nouns; the largest counts otherwise.", max_length=5)


class QuestionsBody(Body):
    """A request for questions about an image."""

    prompt: str = Field("", description="The words that every question begins with.", max_length=200)
    answer: str = Field("", description="The name of a model that answers each question.", max_length=300)


class ExampleEntry(BaseModel):
    """An image to begin with."""

    name: str


class AnswerBody(BaseModel):
    """A rater's answer."""

    model_config = ConfigDict(extra="forbid")
    item: str = Field(description="The key of the item.", max_length=64)
    choice: int = Field(
        description="The index of the option; of a trust study from -2 (B) to 2 (A), as shown.", ge=-2, le=10
    )
    milliseconds: int = Field(0, description="Since the item was shown.", ge=0, le=86_400_000)
