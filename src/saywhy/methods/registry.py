"""The methods by name, with paper and equation: what the command line, the documentation and the tests read."""

from functools import cache
from importlib.metadata import entry_points

from saywhy.errors import MethodError, nearest
from saywhy.methods.ablation import ablationcam, reciprocam
from saywhy.methods.attention import attention, attention_rollout, generic_attention, gradient_rollout
from saywhy.methods.channel import cam, gradcam, gradcam_pp, xgradcam
from saywhy.methods.eigen import eigencam, eigengradcam
from saywhy.methods.elementwise import gradcam_elementwise, hirescam, layercam
from saywhy.methods.excitation import contrastive_excitation_backprop, excitation_backprop
from saywhy.methods.factors import fem, kpcacam, segeigencam
from saywhy.methods.fullgrad import fullgrad
from saywhy.methods.guided import deconv_gradcam, deconvnet, guided_backprop, guided_gradcam
from saywhy.methods.masked import iscam, scorecam, sscam
from saywhy.methods.method import Method
from saywhy.methods.path import conductance, integrated_gradcam, integrated_gradients, rsi_gradcam
from saywhy.methods.perturbation import occlusion, rise
from saywhy.methods.pixels import input_times_gradient, saliency
from saywhy.methods.relevance import lrp
from saywhy.methods.shapley import shapleycam
from saywhy.methods.smooth import smooth_gradcam_pp, smoothed, smoothgrad, vargrad
from saywhy.methods.surrogate import kernelshap, lime

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("gradcam", gradcam, "Grad-CAM", "Selvaraju et al., 2017", "ReLU(Σₖ mean(Gₖ) Aₖ)"),
        Method("cam", cam, "CAM", "Zhou et al., 2016", "Σₖ wₖ Aₖ"),
        Method(
            "gradcam++",
            gradcam_pp,
            "Grad-CAM++",
            "Chattopadhay et al., 2018",
            "ReLU(Σₖ wₖ Aₖ), wₖ = Σ ReLU(Gₖ) / (2 + Gₖ ΣAₖ)",
            scale_free=False,
        ),
        Method("hirescam", hirescam, "HiResCAM", "Draelos and Carin, 2020", "ReLU(Σₖ Gₖ ⊙ Aₖ)"),
        Method("xgradcam", xgradcam, "XGrad-CAM", "Fu et al., 2020", "ReLU(Σₖ (Σ Gₖ Aₖ / Σ Aₖ) Aₖ)"),
        Method("layercam", layercam, "Layer-CAM", "Jiang et al., 2021", "ReLU(Σₖ ReLU(Gₖ) ⊙ Aₖ)"),
        Method(
            "gradcam-elementwise",
            gradcam_elementwise,
            "element-wise Grad-CAM",
            "pytorch-grad-cam, 2022",
            "Σₖ ReLU(Gₖ ⊙ Aₖ)",
        ),
        Method(
            "eigencam",
            eigencam,
            "Eigen-CAM",
            "Muhammad and Yeasin, 2020",
            "first principal component of A",
            uses_gradients=False,
        ),
        Method(
            "eigengradcam",
            eigengradcam,
            "Eigen-Grad-CAM",
            "pytorch-grad-cam, 2021",
            "first principal component of G ⊙ A",
        ),
        Method(
            "segeigencam",
            segeigencam,
            "Seg-Eigen-CAM",
            "Chung and Ying, 2025",
            "first principal component of |G| ⊙ A",
        ),
        Method(
            "kpcacam",
            kpcacam,
            "KPCA-CAM",
            "Karmani et al., 2024",
            "first kernel principal component of A",
            uses_gradients=False,
        ),
        Method(
            "fem",
            fem,
            "FEM",
            "Fuad et al., 2020",
            "Σₖ μₖ [Aₖ ≥ μₖ + K σₖ]",
            uses_gradients=False,
        ),
        Method(
            "shapleycam",
            shapleycam,
            "Shapley-CAM",
            "Cai, 2025",
            "ReLU(Σₖ mean(Gₖ - ½ (H A)ₖ) Aₖ), H = ∂²y / ∂A²",
            passes="several",
        ),
        Method(
            "attention",
            attention,
            "raw attention",
            "Dosovitskiy et al., 2021",
            "A of one block, from the class token on",
            uses_gradients=False,
            passes="several",
        ),
        Method(
            "attention-rollout",
            attention_rollout,
            "attention rollout",
            "Abnar and Zuidema, 2020",
            "Πₗ (Aₗ + I) / 2, from the class token on",
            uses_gradients=False,
            passes="several",
        ),
        Method(
            "gradient-rollout",
            gradient_rollout,
            "gradient attention rollout",
            "vit-explain, 2020",
            "Πₗ rows(ReLU(meanₕ(Gₗ ⊙ Aₗ)) + I), from the class token on",
            scale_free=False,
            passes="several",
        ),
        Method(
            "generic-attention",
            generic_attention,
            "generic attention explainability",
            "Chefer et al., 2021",
            "Πₗ (I + meanₕ ReLU(Gₗ ⊙ Aₗ)), from the class token on",
            scale_free=False,
            passes="several",
        ),
        Method(
            "saliency",
            saliency,
            "saliency",
            "Simonyan et al., 2013",
            "max |G|",
            at="input",
        ),
        Method(
            "input-times-gradient",
            input_times_gradient,
            "input × gradient",
            "Shrikumar et al., 2016",
            "Σ x ⊙ G",
            at="input",
        ),
        Method(
            "smoothgrad",
            smoothgrad,
            "SmoothGrad",
            "Smilkov et al., 2017",
            "max |mean over noise of G|",
            passes="several",
            at="input",
        ),
        Method(
            "vargrad",
            vargrad,
            "VarGrad",
            "Adebayo et al., 2018",
            "Σ variance over noise of G",
            passes="several",
            at="input",
        ),
        Method(
            "smooth-gradcam++",
            smooth_gradcam_pp,
            "Smooth Grad-CAM++",
            "Omeiza et al., 2019",
            "ReLU(Σₖ wₖ Aₖ), wₖ = Σ D₂ ReLU(D₁) / (2 D₂ + D₃ ΣAₖ), Dₙ = mean over noise of Gⁿ",
            scale_free=False,
            passes="several",
        ),
        Method(
            "rsi-gradcam",
            rsi_gradcam,
            "RSI-Grad-CAM",
            "Lucas et al., 2022",
            "ReLU(Σₖ mean(Iₖ) Aₖ), I = ∫ G dA",
            passes="several",
            score="probability",
        ),
        Method(
            "integrated-gradcam",
            integrated_gradcam,
            "Integrated Grad-CAM",
            "Sattarzadeh et al., 2021",
            "∫ ReLU(Σₖ mean(Gₖ) (Aₖ - Aₖ⁰)) da",
            passes="several",
        ),
        Method(
            "conductance",
            conductance,
            "layer conductance",
            "Dhamdhere et al., 2018",
            "Σₖ Iₖ, I = ∫ G dA",
            passes="several",
        ),
        Method(
            "integrated-gradients",
            integrated_gradients,
            "integrated gradients",
            "Sundararajan et al., 2017",
            "Σ ∫ G dx",
            passes="several",
            at="input",
        ),
        Method(
            "scorecam",
            scorecam,
            "Score-CAM",
            "Wang et al., 2020",
            "ReLU(Σₖ wₖ Aₖ), w = softmax(y(x ⊙ Hₖ) - y(0))",
            scale_free=False,
            passes="several",
        ),
        Method(
            "sscam",
            sscam,
            "SS-CAM",
            "Wang et al., 2020",
            "ReLU(Σₖ wₖ Aₖ), w = softmax(mean over noise of y(x ⊙ (Hₖ + δ)) - y(0))",
            scale_free=False,
            passes="several",
        ),
        Method(
            "iscam",
            iscam,
            "IS-CAM",
            "Naidu et al., 2020",
            "ReLU(Σₖ wₖ Aₖ), w = softmax(mean of y(x ⊙ a Hₖ) - y(0) for a to 1)",
            scale_free=False,
            passes="several",
        ),
        Method(
            "ablationcam",
            ablationcam,
            "Ablation-CAM",
            "Desai and Ramaswamy, 2020",
            "ReLU(Σₖ wₖ Aₖ), wₖ = (y - y without Aₖ) / |y|",
            passes="several",
        ),
        Method(
            "reciprocam",
            reciprocam,
            "Recipro-CAM",
            "Byun and Lee, 2022",
            "y(A ⊙ Mₚ), Mₚ shows place p",
            passes="several",
            score="probability",
        ),
        Method(
            "occlusion",
            occlusion,
            "occlusion",
            "Zeiler and Fergus, 2014",
            "mean over windows on p of y(x) - y(x without the window)",
            passes="several",
            at="input",
            score="probability",
        ),
        Method(
            "rise",
            rise,
            "RISE",
            "Petsiuk et al., 2018",
            "Σᵢ y(x ⊙ Mᵢ) Mᵢ / (N E[M])",
            passes="several",
            at="input",
            score="probability",
        ),
        Method(
            "lime",
            lime,
            "LIME",
            "Ribeiro et al., 2016",
            "coefficients of a linear model of y near x",
            passes="several",
            at="input",
            score="probability",
        ),
        Method(
            "kernelshap",
            kernelshap,
            "KernelSHAP",
            "Lundberg and Lee, 2017",
            "Shapley values of the parts of x, by weighted least squares",
            passes="several",
            at="input",
        ),
        Method(
            "guided-backprop",
            guided_backprop,
            "guided backpropagation",
            "Springenberg et al., 2015",
            "G, every ReLU handing back ReLU(g) where z > 0",
            passes="several",
            at="input",
        ),
        Method(
            "deconvnet",
            deconvnet,
            "deconvnet",
            "Zeiler and Fergus, 2014",
            "G, every ReLU handing back ReLU(g)",
            passes="several",
            at="input",
        ),
        Method(
            "guided-gradcam",
            guided_gradcam,
            "Guided Grad-CAM",
            "Selvaraju et al., 2017",
            "guided backpropagation ⊙ upsampled Grad-CAM",
            passes="several",
            grid="input",
        ),
        Method(
            "deconv-gradcam",
            deconv_gradcam,
            "Deconvolution Grad-CAM",
            "Selvaraju et al., 2017",
            "deconvnet ⊙ upsampled Grad-CAM",
            passes="several",
            grid="input",
        ),
        Method(
            "excitation-backprop",
            excitation_backprop,
            "excitation backprop",
            "Zhang et al., 2016",
            "Σₖ P(Aₖ), P(aⱼ) = Σᵢ aⱼ wᵢⱼ⁺ / (Σₘ aₘ wᵢₘ⁺) P(aᵢ)",
            passes="several",
        ),
        Method(
            "contrastive-excitation-backprop",
            contrastive_excitation_backprop,
            "contrastive excitation backprop",
            "Zhang et al., 2016",
            "ReLU(Σₖ P(Aₖ) - P(Aₖ) for the dual of the class)",
            passes="several",
        ),
        Method(
            "lrp",
            lrp,
            "LRP epsilon-plus",
            "Bach et al., 2015",
            "Σ R, Rⱼ = Σᵢ aⱼ wᵢⱼ / (Σₘ aₘ wᵢₘ) Rᵢ",
            scale_free=False,
            passes="several",
            at="input",
        ),
        Method(
            "fullgrad",
            fullgrad,
            "FullGrad",
            "Srinivas and Fleuret, 2019",
            "Σ ψ(x ⊙ G) + Σ over layers of ψ(b ⊙ dy/dz)",
            passes="several",
            at="input",
        ),
    )
}
"""Every method by name. Packages add theirs with the entry point group ``saywhy.methods``."""


_ELSEWHERE = {
    "finercam": "it is a target for any method, target=saywhy.targets.finer('tiger cat')",
    "refinecam": "it fuses the layers of any method, method='gradcam++', layer=['layer3', 'layer4'], fuse='refine'",
}
"""What other packages call a method, and what it is here."""


def register(method: Method) -> None:
    """Add a method of your own; it is then a choice everywhere: in Python, on the command line, in the viewer.

    Raises:
        MethodError: the name is taken.
    """
    if METHODS.get(method.name, method) is not method:
        raise MethodError(f"there is a method '{method.name}' already. Choose another name.")
    METHODS[method.name] = method


def find_method(name: str) -> Method:
    """The method of this name; entry points of other packages are looked at when the name is not ours.

    ``smooth-`` before the name of a method of one pass is that method, averaged over noisy copies of the picture.

    Raises:
        MethodError: there is no such method.

    >>> find_method("gradcam").paper
    'Selvaraju et al., 2017'
    """
    if name not in METHODS and name.startswith("smooth-"):
        return _smoothed(name.removeprefix("smooth-"))
    if name not in METHODS:
        for entry in entry_points(group="saywhy.methods"):
            register(entry.load())
    if name not in METHODS and name in _ELSEWHERE:
        raise MethodError(f"'{name}' is no method of its own: {_ELSEWHERE[name]}.")
    if name not in METHODS:
        likely = nearest(name, METHODS) or list(METHODS)
        raise MethodError(
            f"no method '{name}'. Nearest: {', '.join(repr(n) for n in likely)}. `saywhy methods` lists them all."
        )
    return METHODS[name]


@cache
def _smoothed(name: str) -> Method:
    """A method of one pass over noisy copies of the picture; not in the list, which would be twice as long."""
    inner = find_method(name)
    if inner.passes != "one":
        raise MethodError(f"'{name}' makes several passes of its own; only methods of one pass can be smoothed.")
    return smoothed(inner)
