import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.linalg import Tall, polar


@given(seed=st.integers(0, 200), rows=st.integers(1, 40), columns=st.integers(1, 12), fall=st.sampled_from([0, 0.5, 1]))
def test_basis_times_coefficients_is_the_matrix(seed: int, rows: int, columns: int, fall: float) -> None:
    random = np.random.default_rng(seed)
    matrix = (random.normal(size=(rows, columns)) * np.exp(-fall * np.arange(columns))).astype(np.float32)
    tall = Tall(matrix)
    basis = tall.basis()
    size = np.abs(matrix).max()
    np.testing.assert_allclose(basis @ tall.coefficients, matrix, atol=2e-6 * size)
    count = tall.coefficients.shape[0]
    assert count <= min(rows, columns)
    assert np.abs(basis.T @ basis - np.eye(count)).max() < 1e-3


def test_the_singular_values_are_those_of_the_matrix() -> None:
    random = np.random.default_rng(0)
    matrix = (random.normal(size=(300, 24)) * 2.0 ** -np.arange(24)).astype(np.float32)
    found = np.linalg.svd(Tall(matrix).coefficients, compute_uv=False)
    expected = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    near = expected > 1e-5 * expected[0]
    np.testing.assert_allclose(found[: near.sum()], expected[near], rtol=1e-4)


@pytest.mark.parametrize("columns", [1, 3])
def test_of_nothing_there_is_a_basis_of_nothing(columns: int) -> None:
    tall = Tall(np.zeros((5, columns), np.float32))
    assert tall.coefficients.shape == (1, columns)
    assert not (tall.basis() @ tall.coefficients).any()


def test_the_polar_factor_is_the_nearest_with_orthonormal_columns() -> None:
    matrix = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    np.testing.assert_allclose(polar(matrix), u @ vt, atol=1e-5)
