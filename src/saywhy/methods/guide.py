"""What each method does in one sentence, when to use it, and how often it runs the network."""

from dataclasses import dataclass

from saywhy.methods.method import Method


@dataclass(frozen=True)
class Advice:
    """Advice on one method.

    Attributes:
        what: the map, in one sentence.
        when: when to use the method.
        images: images that the network runs for one map of one target: a whole number, or words where it depends on the
            layer or the network.
        recommended: whether it is the first choice for a task, by the measured pages.
    """

    what: str
    when: str
    images: str = "1"
    recommended: bool = False


_HEAD_ONLY = "1, then the layers behind once a "

GUIDE: dict[str, Advice] = {
    "gradcam": Advice(
        "Weights the channels of a layer by their mean gradient.", "The first choice for classifiers.", recommended=True
    ),
    "cam": Advice(
        "Weights the channels by the weights of the linear layer.", "Networks of pooling and one linear layer."
    ),
    "gradcam++": Advice("Weights positive gradients by their curvature.", "Several objects of one class."),
    "hirescam": Advice(
        "Multiplies each cell by its own gradient.", "Captions, and heads that weight places.", recommended=True
    ),
    "xgradcam": Advice("Weights gradients by the share of the activation.", "ReLU networks, as a check of Grad-CAM."),
    "layercam": Advice("Multiplies each cell by its positive gradient.", "Early layers, for finer maps."),
    "gradcam-elementwise": Advice(
        "Keeps the positive products of gradient and activation.", "Finer maps than Grad-CAM."
    ),
    "eigencam": Advice("First principal component of the activations.", "What a layer sees, whatever the class."),
    "eigengradcam": Advice("First principal component of gradient × activation.", "Smoother maps of one class."),
    "segeigencam": Advice("Eigen-CAM with gradients and its sign corrected.", "Segmentation networks."),
    "kpcacam": Advice("First kernel principal component of the activations.", "What a layer sees, whatever the class."),
    "fem": Advice("Counts the unusually strong channels.", "What a layer sees, whatever the class."),
    "shapleycam": Advice("Grad-CAM corrected by second derivatives.", "Layers far from the output.", "2"),
    "model-attention": Advice(
        "The attention that the model itself computes.", "Words of captions; weak for questions.", recommended=True
    ),
    "attention": Advice("The attention of one transformer layer.", "What one layer attends to, whatever the class."),
    "attention-rollout": Advice("Multiplies attention over all layers.", "Transformers, whatever the class."),
    "gradient-rollout": Advice("Attention rollout weighted by gradients.", "Transformers, for one class."),
    "generic-attention": Advice("Propagates relevance through attention layers.", "Transformers, for one class."),
    "saliency": Advice("Magnitude of the gradient of each pixel.", "Fine structure; noisy."),
    "input-times-gradient": Advice("Gradient times input of each pixel.", "A quick linear attribution; noisy."),
    "smoothgrad": Advice("Mean gradient over noisy copies.", "A less noisy saliency map.", "26"),
    "vargrad": Advice("Variance of the gradient over noisy copies.", "Where the gradient is unsteady.", "26"),
    "smooth-gradcam++": Advice("Grad-CAM++ with derivatives averaged over noise.", "Unsteady Grad-CAM++ maps.", "12"),
    "rsi-gradcam": Advice(
        "Integrates Grad-CAM along a path from a baseline.", "Questions, and saturated scores.", "52", recommended=True
    ),
    "integrated-gradcam": Advice("Integrates gradient × activation along a path.", "Saturated scores.", "52"),
    "conductance": Advice("Integrates the flow through each cell.", "Maps that add up to the score.", "52"),
    "integrated-gradients": Advice(
        "Integrates the gradient of each pixel.", "Pixel maps that add up to the score.", "52"
    ),
    "scorecam": Advice("Scores the image masked by each channel.", "Without gradients.", "one a channel"),
    "sscam": Advice("Score-CAM averaged over noise.", "Unsteady Score-CAM maps.", "35 a channel"),
    "iscam": Advice("Score-CAM with masks that grow in steps.", "Unsteady Score-CAM maps.", "10 a channel"),
    "ablationcam": Advice(
        "Removes each channel and measures the drop.", "Without gradients, quickly.", f"{_HEAD_ONLY}channel"
    ),
    "reciprocam": Advice("Keeps one cell at a time.", "Without gradients, quickly.", f"{_HEAD_ONLY}cell"),
    "occlusion": Advice("Hides one window at a time.", "A check that needs no theory.", "about 200"),
    "rise": Advice("Averages random masks by their scores.", "Black boxes.", "2001"),
    "lime": Advice("Fits a sparse linear model to hidden regions.", "Black boxes, by regions.", "1001"),
    "kernelshap": Advice("Estimates Shapley values of regions.", "Black boxes, by regions that add up.", "1001"),
    "guided-backprop": Advice(
        "Passes only positive gradients back.", "Fine structure; hardly depends on the class.", "2"
    ),
    "deconvnet": Advice("Applies ReLU to the gradients alone.", "Comparison with the paper; often misleading.", "2"),
    "guided-gradcam": Advice("Guided backpropagation times Grad-CAM.", "Fine structure where Grad-CAM points.", "3"),
    "deconv-gradcam": Advice("Deconvnet times Grad-CAM.", "Comparison with the paper.", "3"),
    "excitation-backprop": Advice("Passes winning probabilities back.", "ReLU networks, for one class.", "2"),
    "contrastive-excitation-backprop": Advice(
        "Excitation backprop less that of the opposite.", "Classes in one image.", "2"
    ),
    "lrp": Advice("Passes relevance back layer by layer.", "Pixel maps; needs the extra lrp.", "3"),
    "fullgrad": Advice("Adds the gradients of inputs and biases.", "Maps that account for biases.", "2"),
}


def advice_on(method: Method) -> Advice:
    """Return the advice on a method; for a method of another package its title and family.

    >>> from saywhy.methods import find_method
    >>> advice_on(find_method("gradcam")).when, advice_on(find_method("smooth-hirescam")).images
    ('The first choice for classifiers.', '25 or more')
    """
    found = GUIDE.get(method.name)
    if found is not None:
        return found
    own = GUIDE.get(method.name.removeprefix("smooth-"))
    if own is not None:
        return Advice(f"{own.what} Averaged over noise.", "Less noisy maps.", "25 or more")
    return Advice(f"{method.title}.", f"See {method.paper}.", "1" if method.passes == "one" else "several")
