"""TSV-M and Iso-C: what the singular vectors of the updates say of each other."""

from collections.abc import Sequence

import numpy as np

from calora.adapter import Adapter, Factors
from calora.linalg import NOTHING, polar
from calora.merging.inputs import by_module, checked, modules, weighted
from calora.merging.linear import weighted_sum
from calora.merging.registry import merge_method
from calora.merging.spaces import Joint


@merge_method("tsv_m", title="TSV-M", source="https://arxiv.org/abs/2412.00081")
def tsv_m(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None) -> Adapter:
    """Merge the updates' singular vectors after making those of different adapters orthogonal (Gargiulo et al., 2025).

    dW_i = U_i S_i V_i^T. Of the concatenations U = [U_1, ..., U_N], V = [V_1, ..., V_N] the nearest matrices with
    orthonormal columns are taken (the polar factor P Q^T of the SVD P D Q^T), and the merge is

        dW' = U' diag(lambda_1 S_1, ..., lambda_N S_N) V'^T.

    The work keeps of each task the first 1/N of all singular vectors; an adapter has far fewer, so that all of them are
    kept unless the ranks add up to more than a side of the matrix. A direction that two adapters share wholly has no
    second orthogonal one; it is left out of the polar factor. All in orthonormal bases of the factors: exact, of rank
    sum r_i.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None. An adapter of strength 0 takes no part.

    Raises:
        CaloraError: The adapters differ in shapes.
    """
    weights = checked(adapters, strengths, 1.0)
    return Adapter(by_module(modules(adapters), lambda module: _tsv_m(weighted(module, adapters, weights))))


def _tsv_m(pairs: Sequence[tuple[float, Factors]]) -> Factors:
    present = [(weight, pair) for weight, pair in pairs if weight and not pair.is_zero]  # 0 has no directions
    if not present:
        return pairs[0][1].scaled(0.0)
    joint = Joint([pair for _, pair in present])
    parts = [np.linalg.svd(core, full_matrices=False) for core in joint.cores]
    ranks = [int(np.count_nonzero(s > NOTHING * s[0])) for _, s, _ in parts]
    if not any(ranks):  # of b a that cancels out
        return pairs[0][1].scaled(0.0)
    side = min(present[0][1].shape)
    most = side if sum(ranks) <= side else max(1, side // len(present))
    left, values, right = [], [], []
    for (weight, _), (u, s, vt), rank in zip(present, parts, ranks, strict=True):
        kept = min(rank, most)
        left.append(u[:, :kept])
        values.append(weight * s[:kept])
        right.append(vt[:kept].T)
    scales = np.concatenate(values).astype(np.float32)
    rows, columns = (polar(np.concatenate(vectors, axis=1)) for vectors in (right, left))
    return Factors(joint.right.basis(rows).T, joint.left.basis(columns) * scales)


@merge_method("iso_c", title="Iso-C", source="https://arxiv.org/abs/2502.04959")
def iso_c(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None) -> Adapter:
    """Flatten the spectrum of the weighted sum of the updates (Marczak et al., 2025).

        sum lambda_i dW_i = U S V^T,   dW' = mean(S) U V^T.

    The work takes the mean over all min(out, in) singular values of a full matrix. Those of a sum of adapters are 0
    beyond rank sum r_i, where the singular vectors mean nothing; the mean is over the others here. The nuclear norm
    is kept, so that `strengths` set the size. The merge of one adapter is not that adapter.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.

    Raises:
        CaloraError: The adapters differ in shapes.
    """
    weights = checked(adapters, strengths, 1.0)

    def flattened(module: str) -> Factors:
        return _isotropic(weighted_sum(weighted(module, adapters, weights)))

    return Adapter(by_module(modules(adapters), flattened))


def _isotropic(pair: Factors) -> Factors:
    u, s, vt = pair.svd()
    kept = s > NOTHING * s[0]
    if not s[0]:
        return pair.scaled(0.0)
    level = np.sqrt(s[kept].mean())
    return Factors(level * vt[kept], level * u[:, kept])
