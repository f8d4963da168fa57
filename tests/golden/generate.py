#!/usr/bin/env python3
"""Makes golden.json, the numbers that tests/golden.rs holds the crate to.

Everything is computed in float64 from inputs that are part of the file, by PyTorch (losses, gradients, training),
SciPy (the Hungarian matching) and scikit-learn (NMI, ARI, silhouette, k-means). The gradients of the clustering
loss are computed twice, in closed form (Xie et al. 2016, Eq. 4 and 5) and by autograd, and must agree.
"""

import argparse
import json
import math
import sys
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden.json")
LEARNING_RATE = 0.1
MOMENTUM = 0.9
STEPS = 10


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Needs numpy, torch, scipy and scikit-learn (scripts/setup --peers brings them).")
    parser.add_argument("--check", action="store_true",
                        help="compare with the committed golden.json instead of writing it; exit code 1 if they differ")
    parser.add_argument("--tolerance", type=float, default=1e-9, metavar="T",
                        help="for --check: |a - b| may be T * max(1, |a|, |b|) (default: %(default)g)")
    parser.add_argument("--output", type=Path, default=GOLDEN, metavar="FILE",
                        help="the file to write or to compare with (default: golden.json beside this script)")
    return parser.parse_args()


def soft_assignment(z, centroids, alpha):
    """q as in Eq. 1, written as the paper writes it."""
    squared = ((z[:, None, :] - centroids[None, :, :]) ** 2).sum(dim=2)
    kernel = (1 + squared / alpha) ** (-(alpha + 1) / 2)
    return kernel / kernel.sum(dim=1, keepdim=True)


def target_distribution(q, frequency):
    """p as in Eq. 3; a constant."""
    weight = (q ** 2 / frequency).detach()
    return weight / weight.sum(dim=1, keepdim=True)


def kl_rows(p, q):
    """KL(p_i || q_i) of every row."""
    return (p * (p / q).log()).sum(dim=1)


def closed_gradients(z, centroids, p, alpha):
    """Eq. 4 and 5, row by row and cluster by cluster, in plain Python."""
    z, centroids, p = z.tolist(), centroids.tolist(), p.tolist()
    factor = (alpha + 1) / alpha
    grad_z = [[0.0] * len(z[0]) for _ in z]
    grad_centroids = [[0.0] * len(z[0]) for _ in centroids]
    for i, row in enumerate(z):
        u = [1 / (1 + sum((a - b) ** 2 for a, b in zip(row, centre)) / alpha) for centre in centroids]
        kernel = [value ** ((alpha + 1) / 2) for value in u]
        for j, centre in enumerate(centroids):
            weight = factor * u[j] * (p[i][j] - kernel[j] / sum(kernel))
            for f, (a, b) in enumerate(zip(row, centre)):
                grad_z[i][f] += weight * (a - b)
                grad_centroids[j][f] -= weight * (a - b)
    return grad_z, grad_centroids


def clustering(rng, torch, alpha):
    z = torch.tensor(rng.normal(size=(12, 3)).round(3))
    z[5] += 40  # a row far from all: its q is flat for the kernel's heavy tails, its p nearly so
    centroids = torch.tensor(rng.normal(size=(4, 3)).round(3))
    z[7] = centroids[2]  # and one on a centroid
    z.requires_grad_(True)
    centroids.requires_grad_(True)
    q = soft_assignment(z, centroids, alpha)
    frequency = q.sum(dim=0).detach()
    p = target_distribution(q, frequency)
    rows = kl_rows(p, q)
    grad_z, grad_centroids = torch.autograd.grad(rows.sum(), [z, centroids])
    closed_z, closed_centroids = closed_gradients(z, centroids, p, alpha)
    for autograd, closed in [(grad_z, closed_z), (grad_centroids, closed_centroids)]:
        torch.testing.assert_close(autograd, torch.tensor(closed, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    return {
        "alpha": alpha, "z": z.tolist(), "centroids": centroids.tolist(), "q": q.tolist(), "log_q": q.log().tolist(),
        "frequency": frequency.tolist(), "p": p.tolist(), "kl_mean": rows.mean().item(),
        "grad_z_of_sum": closed_z, "grad_centroids_of_sum": closed_centroids,
    }


def stack(torch, widths):
    layers = []
    for i, (n_in, n_out) in enumerate(zip(widths, widths[1:])):
        layers += ([torch.nn.ReLU()] if i else []) + [torch.nn.Linear(n_in, n_out, dtype=torch.float64)]
    return torch.nn.Sequential(*layers)


def network(rng, torch, widths, scale):
    """The autoencoder as two Sequentials, with weights that are short decimals."""
    net = torch.nn.ModuleDict({"encoder": stack(torch, widths), "decoder": stack(torch, widths[::-1])})
    with torch.no_grad():
        for parameter in net.parameters():
            # Wide enough for no layer's units to be dead for all rows, biases included.
            parameter.copy_(torch.tensor(rng.normal(scale=scale, size=tuple(parameter.shape)).round(3)))
    return net


def parameters(net, prefix=""):
    return {name: p.tolist() for name, p in net.named_parameters() if name.startswith(prefix)}


def sgd(torch, trained):
    return torch.optim.SGD(trained, lr=LEARNING_RATE, momentum=MOMENTUM)


def autoencoder_sgd(rng, torch):
    widths = [6, 5, 4, 2]
    net = network(rng, torch, widths, 0.5)
    initial = parameters(net)
    batches = torch.tensor(rng.normal(size=(STEPS, 4, widths[0])).round(3))
    optimiser = sgd(torch, net.parameters())
    losses = []
    for x in batches:
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(net["decoder"](net["encoder"](x)), x)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return {"widths": widths, "learning_rate": LEARNING_RATE, "momentum": MOMENTUM, "initial": initial,
            "batches": batches.tolist(), "losses": losses, "final": parameters(net)}


def kl_sgd(rng, torch):
    widths = [6, 5, 4, 2]
    net = network(rng, torch, widths, 1.0)
    initial = parameters(net)
    x = torch.tensor(rng.normal(size=(12, widths[0])).round(3))
    near = net["encoder"](x[::4]).detach().numpy()
    centroids = torch.tensor((near + 0.3 * rng.normal(size=near.shape)).round(3), requires_grad=True)
    initial_centroids = centroids.tolist()
    q = soft_assignment(net["encoder"](x), centroids, 1.0)
    p = target_distribution(q, q.sum(dim=0))
    optimiser = sgd(torch, [*net["encoder"].parameters(), centroids])
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = kl_rows(p, soft_assignment(net["encoder"](x), centroids, 1.0)).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return {"widths": widths, "learning_rate": LEARNING_RATE, "momentum": MOMENTUM, "alpha": 1.0, "initial": initial,
            "initial_centroids": initial_centroids, "x": x.tolist(), "p": p.tolist(), "losses": losses,
            "final_encoder": parameters(net, "encoder"), "final_centroids": centroids.tolist()}


OBJECTIVES = {
    # Xie et al. 2016; Guo et al. 2017; Guo et al. 2020: the squared distance to the row's own centroid, mean
    # over the latent's values, for the rows that are learned from.
    "dec": lambda x, y, q, p, squares: kl_rows(p, q).mean(),
    "idec": lambda x, y, q, p, squares: ((y - x) ** 2).mean() + 0.1 * kl_rows(p, q).mean(),
    "aspc": lambda x, y, q, p, squares: (p * squares).sum(dim=1).mean(),
}


def objectives(rng, torch):
    """Every objective with every optimiser, ten steps."""
    optimisers = {
        "sgd": lambda parameters: torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=0.01),
        "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, betas=(MOMENTUM, 0.999), weight_decay=0.01),
        "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, betas=(MOMENTUM, 0.999), weight_decay=0.01),
    }
    return [objective(rng, torch, name, optimiser, make)
            for name in OBJECTIVES for optimiser, make in optimisers.items()]


def objective(rng, torch, name, optimiser, make):
    widths = [6, 5, 4, 2]
    net = network(rng, torch, widths, 1.0)
    initial = parameters(net)
    x = torch.tensor(rng.normal(size=(12, widths[0])).round(3))
    near = net["encoder"](x[::4]).detach().numpy()
    centroids = torch.tensor((near + 0.3 * rng.normal(size=near.shape)).round(3), requires_grad=name != "aspc")
    initial_centroids = centroids.tolist()
    q = soft_assignment(net["encoder"](x), centroids, 1.0)
    if name == "aspc":
        p = torch.nn.functional.one_hot(q.argmax(dim=1), 3).double()
        p[::5] = 0.0
    else:
        p = target_distribution(q, q.sum(dim=0)).detach()
    trained = list(net["encoder"].parameters())
    trained += list(net["decoder"].parameters()) if name == "idec" else []
    trained += [centroids] if name != "aspc" else []
    steps = make(trained)
    losses = []
    for _ in range(STEPS):
        steps.zero_grad()
        z = net["encoder"](x)
        squares = ((z[:, None, :] - centroids[None]) ** 2).mean(dim=2)
        loss = OBJECTIVES[name](x, net["decoder"](z), soft_assignment(z, centroids, 1.0), p, squares)
        loss.backward()
        steps.step()
        losses.append(loss.item())
    return {"objective": name, "optimiser": optimiser, "widths": widths,
            "learning_rate": LEARNING_RATE if optimiser == "sgd" else 0.01, "momentum": MOMENTUM, "weight_decay": 0.01,
            "gamma": 0.1, "initial": initial, "initial_centroids": initial_centroids, "x": x.tolist(), "p": p.tolist(),
            "losses": losses, "final": parameters(net), "final_centroids": centroids.tolist()}


def schedules(torch):
    """The rate of every step, from PyTorch's own schedulers."""
    def rates(scheduler, total):
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LEARNING_RATE)
        scheduler, found = scheduler(optimiser, total), []
        for _ in range(total):
            found.append(float(optimiser.param_groups[0]["lr"]))
            optimiser.step()
            if len(found) < total:
                scheduler.step()
        return found

    from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
    kinds = {"cosine": lambda o, total: CosineAnnealingLR(o, T_max=total),
             "one_cycle": lambda o, total: OneCycleLR(o, max_lr=LEARNING_RATE, total_steps=total)}
    return [{"schedule": kind, "lr": LEARNING_RATE, "rates": rates(scheduler, total)}
            for kind, scheduler in kinds.items() for total in (1, 2, 3, 10, 40)]


def spectral(rng):
    """Neighbours, the self-tuning graph, and its leading eigenvalues."""
    import numpy
    import scipy.sparse
    from scipy.sparse.linalg import eigsh
    from sklearn.neighbors import NearestNeighbors
    rows = rng.normal(size=(60, 3)).round(3)
    rows[::3] += 4.0
    k = 9
    distances, indices = NearestNeighbors(n_neighbors=k).fit(rows).kneighbors()
    scale = distances[:, 6]
    weights = numpy.exp(-distances ** 2 / (scale[:, None] * scale[indices]))
    graph = scipy.sparse.csr_matrix((weights.ravel(), (numpy.repeat(numpy.arange(len(rows)), k), indices.ravel())))
    graph = graph.maximum(graph.T)
    degrees = numpy.asarray(graph.sum(axis=1)).ravel()
    half = scipy.sparse.diags(degrees ** -0.5)
    values = eigsh(half @ graph @ half, k=6, which="LA", v0=numpy.ones(len(rows)))[0]
    return {"rows": rows.tolist(), "k": k, "indices": indices.tolist(), "distances": distances.tolist(),
            "degrees": degrees.tolist(), "eigenvalues": sorted(values.tolist(), reverse=True)}


def accuracy(labels_true, labels_pred):
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix
    table = contingency_matrix(labels_true, labels_pred)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / len(labels_true))


def labellings(rng):
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    classes = rng.integers(0, 4, size=30)
    noisy = classes.copy()
    noisy[::4] = rng.integers(0, 4, size=len(noisy[::4]))
    names = [-7, 1_000_000_007, 0, -9_223_372_036_854_775_808]
    cases = {
        "equal": (classes, classes),
        "permuted": (classes, (classes + 1) % 4),
        "noisy": (classes, noisy),
        "more clusters than classes": (classes, noisy + 4 * rng.integers(0, 3, size=30)),
        "fewer clusters than classes": (classes, noisy // 2),
        "one cluster": (classes, classes * 0 + 5),
        "one class": (classes * 0, noisy),
        "one class and one cluster": (classes * 0, classes * 0 + 1),
        "every row a cluster": (classes, rng.permutation(30)),
        "negative and sparse labels": ([names[c] for c in classes], [names[::-1][c] for c in noisy]),
        "random": (rng.integers(0, 6, size=40), rng.integers(0, 5, size=40)),
        "greedy matching is not the best": ([0] * 9 + [1] * 4, [0] * 5 + [1] * 4 + [0] * 4),
    }
    return [
        {"name": name, "labels_true": [int(y) for y in y], "labels_pred": [int(c) for c in c], "acc": accuracy(y, c),
         "nmi": float(normalized_mutual_info_score(y, c)), "ari": float(adjusted_rand_score(y, c))}
        for name, (y, c) in cases.items()
    ]


def silhouettes(rng):
    from sklearn.metrics import silhouette_score
    blobs = rng.normal(size=(24, 3)).round(3)
    labels = [i % 3 for i in range(24)]
    blobs += 2.0 * (rng.normal(size=(3, 3)).round(3))[labels]
    plane = rng.normal(size=(10, 2)).round(3)
    cases = [(blobs, labels), (plane, [-3, -3, -3, 8, 8, 8, 8, 1, 1, 40])]  # the last label is a cluster of one
    return [{"rows": rows.tolist(), "labels": labels, "silhouette": float(silhouette_score(rows, labels))}
            for rows, labels in cases]


def kmeans(rng):
    """Blobs so far apart that every good search finds the same partition."""
    from sklearn.cluster import KMeans
    centres = rng.normal(scale=6.0, size=(4, 3)).round(3)
    rows = (centres[[i % 4 for i in range(40)]] + 0.5 * rng.normal(size=(40, 3))).round(3)
    fitted = KMeans(n_clusters=4, n_init=20, random_state=0, tol=0.0).fit(rows)
    return {"n_clusters": 4, "rows": rows.tolist(), "labels": fitted.labels_.tolist(),
            "centroids": fitted.cluster_centers_.tolist(), "inertia": float(fitted.inertia_)}


def compute():
    import numpy
    import scipy
    import sklearn
    import torch
    torch.manual_seed(0)  # for Linear's own initialisation, which is overwritten
    seeds = iter(range(100))
    rng = lambda: numpy.random.default_rng(next(seeds))
    return {
        "made_with": {"by": "tests/golden/generate.py", "numpy": numpy.__version__, "scipy": scipy.__version__,
                      "scikit-learn": sklearn.__version__, "torch": torch.__version__.split("+")[0]},
        "clustering": [clustering(rng(), torch, 1.0), clustering(rng(), torch, 2.5)],
        "autoencoder_sgd": autoencoder_sgd(rng(), torch),
        "kl_sgd": kl_sgd(rng(), torch),
        "labellings": labellings(rng()),
        "silhouettes": silhouettes(rng()),
        "kmeans": kmeans(rng()),
        "objectives": objectives(rng(), torch),
        "schedules": schedules(torch),
        "spectral": spectral(rng()),
    }


def pretty(value, indent=0):
    """JSON with a list of plain values on one line."""
    pad, inner = " " * indent, " " * (indent + 2)
    if isinstance(value, dict):
        items = [f"{inner}{json.dumps(key)}: {pretty(item, indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{pad}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(inner + pretty(item, indent + 2) for item in value) + f"\n{pad}]"
    return json.dumps(value, allow_nan=False)


def differences(committed, fresh, tolerance, at=""):
    """Where two values differ, as lines of text."""
    if isinstance(committed, dict) and isinstance(fresh, dict) and committed.keys() == fresh.keys():
        for key in committed:
            if (at, key) != ("", "made_with"):
                yield from differences(committed[key], fresh[key], tolerance, f"{at}.{key}")
    elif isinstance(committed, list) and isinstance(fresh, list) and len(committed) == len(fresh):
        for i, (a, b) in enumerate(zip(committed, fresh)):
            yield from differences(a, b, tolerance, f"{at}[{i}]")
    elif isinstance(committed, float) and isinstance(fresh, float):
        if not math.isclose(committed, fresh, rel_tol=tolerance, abs_tol=tolerance):
            yield f"{at}: {committed!r} in the file, {fresh!r} now"
    elif committed != fresh or type(committed) is not type(fresh):
        yield f"{at}: {str(committed)[:60]} in the file, {str(fresh)[:60]} now"


def main():
    args = arguments()
    fresh = compute()
    if not args.check:
        args.output.write_text(pretty(fresh) + "\n")
        return 0
    found = list(differences(json.loads(args.output.read_text()), fresh, args.tolerance))
    for line in found[:20]:
        print(line, file=sys.stderr)
    if found:
        print(f"{args.output} differs in {len(found)} places from what this machine computes", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
