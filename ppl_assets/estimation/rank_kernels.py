"""Compiled loops for ranks: exact integers, one pass over the losses, no M x M x D temporary.

Quantity: the centred double mid-rank of model k in a column, ``r_k = #{l: x_l < x_k} - #{l: x_l > x_k}``, which is
twice the mid-rank minus (n + 1). A missing loss (NaN) gets 0 and gives nothing to the others: ranks are
pairwise-complete.

Importing this module loads numba, so the rest of the room imports it inside functions. Compiled code is kept on disk
(``cache=True``). Axis letters: M models, D domains or texts, T targets, R replicates.
"""

from functools import lru_cache

import numba
import numpy as np

TILE = (
    8192  # columns per tile of losses: long enough runs for memory, and sums of ten targets in the second-level cache
)
RANKED = 1024  # columns per tile of ranks: those of 90 models take 90 kB, in the second-level cache
COLUMNS = 128  # columns sorted side by side: the keys of 90 models take 45 kB, nearly all in the first-level cache


@lru_cache(maxsize=8)
def sorting_network(n: int) -> np.ndarray:
    """Pairs of places to compare and exchange, in order, that sort any `n` values: C x 2.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M): 936 pairs for 90 values
    instead of the 4,005 comparisons of all with all, and the same ones for every column, so that columns go side by
    side through vector instructions.
    """
    pairs = []
    top = 1 << max((n - 1).bit_length() - 1, 0)
    p = top if n > 1 else 0
    while p:
        q, r, d = top, 0, p
        while d:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return np.array(pairs, np.int64).reshape(-1, 2)


@numba.njit(cache=True, nogil=True)
def _sort_tile(
    x_MD: np.ndarray,
    number_M: np.ndarray,
    pair_C2: np.ndarray,
    low: int,
    key_MW: np.ndarray,
    differ_W: np.ndarray,
    doubt_W: np.ndarray,
) -> None:
    """Sort the columns of `x_MD` by keys: the losses as float32, their last bits replaced by the model's number.

    `doubt_W` marks columns that keys alone do not order: two losses that agree in the bits left, or one that is missing
    (it comes last). `differ_W` is room for the least difference between neighbours.
    """
    n_models, width = x_MD.shape
    value_MW, unsigned_MW = key_MW.view(np.float32), key_MW.view(np.uint32)
    for k in range(n_models):
        x, value, key, number = x_MD[k], value_MW[k], key_MW[k], number_M[k]
        for d in range(width):
            value[d] = np.float32(x[d]) + np.float32(0)  # no negative zero
        for d in range(width):
            bits = key[d]
            missing = (bits & 0x7FFFFFFF) > 0x7F800000
            # The integer order of floats: those below zero are turned round.
            ordered = 0x7FFFFFFF if missing else bits ^ ((bits >> 31) & 0x7FFFFFFF)
            key[d] = (ordered & ~low) | number
    for c in range(len(pair_C2)):
        first, second = key_MW[pair_C2[c, 0]], key_MW[pair_C2[c, 1]]
        for d in range(width):
            a, b = first[d], second[d]
            first[d] = min(a, b)
            second[d] = max(a, b)
    differ_W[:] = 0xFFFFFFFF
    for place in range(1, n_models):
        before, here = unsigned_MW[place - 1], unsigned_MW[place]
        for d in range(width):
            differ_W[d] = min(differ_W[d], before[d] ^ here[d])
    for d in range(width):
        doubt_W[d] = (differ_W[d] <= low) | ((key_MW[n_models - 1, d] | low) == 0x7FFFFFFF)


@numba.njit(cache=True, nogil=True)
def _mid_ranks(
    x_MD: np.ndarray,
    d: int,
    model_M: np.ndarray,
    key_MW: np.ndarray,
    low: int,
    order_M: np.ndarray,
    rank_M: np.ndarray,
) -> bool:
    """Centred double mid-ranks of column `d` from the losses themselves, put right where keys only nearly sorted it.

    `model_M` says which model has which number. True where losses are tied or missing.
    """
    n = 0
    tied = False
    for place in range(len(order_M)):
        model = model_M[key_MW[place, d] & low]
        rank_M[model] = 0
        if x_MD[model, d] == x_MD[model, d]:
            at = n
            while at > 0 and x_MD[order_M[at - 1], d] > x_MD[model, d]:
                order_M[at] = order_M[at - 1]
                at -= 1
            order_M[at] = model
            n += 1
    first = 0
    while first < n:
        last = first + 1
        while last < n and x_MD[order_M[last], d] == x_MD[order_M[first], d]:
            last += 1
        for at in range(first, last):
            rank_M[order_M[at]] = first + last - n
        tied |= last > first + 1
        first = last
    return tied or n < len(order_M)


@numba.njit(cache=True, nogil=True)
def column_ranks(x_MD: np.ndarray, pair_C2: np.ndarray, rank_MD: np.ndarray, tied_D: np.ndarray) -> None:
    """Write the centred double mid-ranks of each column to `rank_MD`, int8 up to 127 models and int16 beyond, and to
    `tied_D` whether losses are tied or missing in it."""
    n_models, n_columns = x_MD.shape
    number_M = np.arange(n_models)
    low = 1
    while low < n_models:
        low = 2 * low + 1
    key_MW = np.empty((n_models, COLUMNS), np.int32)
    differ_W, doubt_W = np.empty(COLUMNS, np.uint32), np.empty(COLUMNS, np.bool_)
    tile_MW = np.empty((n_models, COLUMNS), rank_MD.dtype)
    order_M, rank_M = np.empty(n_models, np.int64), np.empty(n_models, np.int64)
    for start in range(0, n_columns, COLUMNS):
        width = min(COLUMNS, n_columns - start)
        x = x_MD[:, start : start + width]
        _sort_tile(x, number_M, pair_C2, low, key_MW, differ_W, doubt_W)
        for place in range(n_models):
            key, rank = key_MW[place], 2 * place - (n_models - 1)
            for d in range(width):
                tile_MW[np.uintp(key[d] & low), np.uintp(d)] = rank
        tied_D[start : start + width] = False
        for doubted in np.flatnonzero(doubt_W[:width]):
            tied_D[start + doubted] = _mid_ranks(x, doubted, number_M, key_MW, low, order_M, rank_M)
            tile_MW[:, doubted] = rank_M
        rank_MD[:, start : start + width] = tile_MW[:, :width]


@numba.njit(cache=True, nogil=True)
def rank_sums(
    x_MD: np.ndarray, pair_C2: np.ndarray, target_M: np.ndarray, net_D: np.ndarray, square_D: np.ndarray
) -> None:
    """Write sums over models of rank times target rank, and of squared ranks.

    Without writing the ranks down: in a sorted column they are known. Models are numbered by the target, so that
    without ties the number alone says the target's rank.
    """
    n_models, n_columns = x_MD.shape
    model_M = np.argsort(target_M)
    number_M = np.empty(n_models, np.int64)
    number_M[model_M] = np.arange(n_models)
    sorted_M = target_M[model_M]
    untied = (np.diff(sorted_M) > 0).all()
    low = 1
    while low < n_models:
        low = 2 * low + 1
    key_MW = np.empty((n_models, COLUMNS), np.int32)
    differ_W, doubt_W = np.empty(COLUMNS, np.uint32), np.empty(COLUMNS, np.bool_)
    order_M, rank_M = np.empty(n_models, np.int64), np.empty(n_models, np.int64)
    net_W = np.empty(COLUMNS, net_D.dtype)
    for start in range(0, n_columns, COLUMNS):
        width = min(COLUMNS, n_columns - start)
        x = x_MD[:, start : start + width]
        _sort_tile(x, number_M, pair_C2, low, key_MW, differ_W, doubt_W)
        net_W[:] = 0
        for place in range(n_models):
            key, rank = key_MW[place], net_D.dtype.type(2 * place - (n_models - 1))
            if untied:
                for d in range(width):
                    net_W[d] += rank * net_D.dtype.type(np.int32(2) * (key[d] & np.int32(low)) - np.int32(n_models - 1))
            else:
                for d in range(width):
                    net_W[d] += rank * sorted_M[np.uintp(key[d] & low)]
        net_D[start : start + width] = net_W[:width]
        square_D[start : start + width] = (n_models**3 - n_models) // 3
        for doubted in np.flatnonzero(doubt_W[:width]):
            _mid_ranks(x, doubted, model_M, key_MW, low, order_M, rank_M)
            net_D[start + doubted] = (rank_M * target_M).sum()
            square_D[start + doubted] = (rank_M * rank_M).sum()


@numba.njit(cache=True, nogil=True)
def concordance(value_MD: np.ndarray, order: np.ndarray, lower: np.ndarray, count_D: np.ndarray) -> None:
    """Add to `count_D` the pairs of models of which the one with the higher error has the higher value.

    `order` sorts the models by error and `lower` counts, per place, the models of strictly lower error. Values are
    losses or their ranks; NaN is higher than nothing.
    """
    n_columns = value_MD.shape[1]
    wide = np.zeros(RANKED, np.int32)
    narrow = np.zeros(RANKED, np.int8)
    for start in range(0, n_columns, RANKED):
        stop = min(start + RANKED, n_columns)
        wide[:] = 0
        for place in range(len(order)):
            a = value_MD[order[place], start:stop]
            # A byte holds 127 comparisons; more are carried over.
            for first in range(0, lower[place], 124):
                last = min(first + 124, lower[place])
                narrow[:] = 0
                for other in range(first, last - 3, 4):
                    b0, b1 = value_MD[order[other], start:stop], value_MD[order[other + 1], start:stop]
                    b2, b3 = value_MD[order[other + 2], start:stop], value_MD[order[other + 3], start:stop]
                    for d in range(stop - start):
                        narrow[d] += (
                            np.int8(a[d] > b0[d])
                            + np.int8(a[d] > b1[d])
                            + np.int8(a[d] > b2[d])
                            + np.int8(a[d] > b3[d])
                        )
                for other in range(last - (last - first) % 4, last):
                    b = value_MD[order[other], start:stop]
                    for d in range(stop - start):
                        narrow[d] += a[d] > b[d]
                for d in range(stop - start):
                    wide[d] += narrow[d]
        for d in range(stop - start):
            count_D[start + d] += wide[d]


@numba.njit(cache=True, nogil=True)
def untied_pairs(value_MD: np.ndarray, count_D: np.ndarray) -> None:
    """Add to `count_D` the pairs of models whose values are there and differ."""
    n_models, n_columns = value_MD.shape
    for i in range(n_models):
        for j in range(i):
            for d in range(n_columns):
                count_D[d] += (value_MD[i, d] > value_MD[j, d]) | (value_MD[i, d] < value_MD[j, d])


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def weighted_sums(x_MD: np.ndarray, weight_TM: np.ndarray, sum_TD: np.ndarray) -> None:
    """``sum_td += sum_k weight_tk x_kd``, accumulated in float64 whatever the storage type of `x_MD`.

    Six models at a time: the sums are then read and written once for six rows of losses, at the speed of memory.
    """
    n_models, n_columns = x_MD.shape
    whole = n_models - n_models % 6
    for start in range(0, n_columns, TILE):
        stop = min(start + TILE, n_columns)
        for k in range(0, whole, 6):
            x0, x1, x2 = x_MD[k, start:stop], x_MD[k + 1, start:stop], x_MD[k + 2, start:stop]
            x3, x4, x5 = x_MD[k + 3, start:stop], x_MD[k + 4, start:stop], x_MD[k + 5, start:stop]
            for t in range(len(weight_TM)):
                w0, w1, w2 = weight_TM[t, k], weight_TM[t, k + 1], weight_TM[t, k + 2]
                w3, w4, w5 = weight_TM[t, k + 3], weight_TM[t, k + 4], weight_TM[t, k + 5]
                sum_D = sum_TD[t, start:stop]
                for d in range(stop - start):
                    sum_D[d] += (
                        w0 * np.float64(x0[d])
                        + w1 * np.float64(x1[d])
                        + w2 * np.float64(x2[d])
                        + w3 * np.float64(x3[d])
                        + w4 * np.float64(x4[d])
                        + w5 * np.float64(x5[d])
                    )
        for k in range(whole, n_models):
            for t in range(len(weight_TM)):
                weight = weight_TM[t, k]
                for d in range(start, stop):
                    sum_TD[t, d] += weight * np.float64(x_MD[k, d])


@numba.njit(cache=True, nogil=True)
def weighted_positions(order: np.ndarray, value: np.ndarray, weight_MR: np.ndarray, position_MR: np.ndarray) -> None:
    """Twice the weight below plus the weight tied: ``2 mid-rank - 1`` of the models in `order` (ascending `value`).

    A model of weight w stands for w tied copies; only the rows named in `order` are written.
    """
    n_replicates = weight_MR.shape[1]
    below_R = np.zeros(n_replicates, np.float32)
    tied_R = np.empty(n_replicates, np.float32)
    first = 0
    while first < len(order):
        last = first
        tied_R[:] = 0
        while last < len(order) and value[order[last]] == value[order[first]]:
            for r in range(n_replicates):
                tied_R[r] += weight_MR[order[last], r]
            last += 1
        for i in range(first, last):
            for r in range(n_replicates):
                position_MR[order[i], r] = 2 * below_R[r] + tied_R[r]
        for r in range(n_replicates):
            below_R[r] += tied_R[r]
        first = last


@numba.njit(cache=True, nogil=True)
def weighted_targets(
    y_TM: np.ndarray,
    present: np.ndarray,
    weight_MR: np.ndarray,
    total_R: np.ndarray,
    weighted_TMR: np.ndarray,
    square_TR: np.ndarray,
    cross_TR: np.ndarray,
) -> None:
    """Weight times centred rank of every target among the models `present`; sums of its squares and with target 0."""
    rank_MR = np.zeros(weight_MR.shape, np.float32)
    here = np.flatnonzero(present)
    total_R[:] = 0
    for k in here:
        for r in range(len(total_R)):
            total_R[r] += weight_MR[k, r]
    for t in range(len(y_TM)):
        order = np.argsort(y_TM[t])
        weighted_positions(order[present[order]], y_TM[t], weight_MR, rank_MR)
        square_TR[t] = 0
        cross_TR[t] = 0
        for k in here:
            for r in range(len(total_R)):
                rank = rank_MR[k, r] - total_R[r]
                weighted_TMR[t, k, r] = weight_MR[k, r] * rank
                square_TR[t, r] += weighted_TMR[t, k, r] * rank
                cross_TR[t, r] += weighted_TMR[0, k, r] * rank


@numba.njit(cache=True, nogil=True)
def replicate_block(
    x_MD: np.ndarray,
    order_DM: np.ndarray,
    y_TM: np.ndarray,
    weight_MR: np.ndarray,
    table: np.ndarray,
    rho_TDR: np.ndarray,
    cross_TDR: np.ndarray,
) -> None:
    """Correlation of the scores of every column with the ranks of every target, anew in every weighted replicate.

    `order_DM` sorts the models of a column, NaN last; weights are whole numbers; ``table[n, h]`` is the score of
    position h among n models. Each column uses only the models it has; `cross_TDR` is the rank correlation, over those
    same models, of every target with the first one. An undefined correlation is NaN.
    """
    n_models, n_columns = x_MD.shape
    n_targets, n_replicates = y_TM.shape[0], weight_MR.shape[1]
    weighted_TMR = np.zeros((n_targets, n_models, n_replicates), np.float32)
    square_TR = np.zeros((n_targets, n_replicates), np.float32)
    cross_TR, net_TR = np.zeros_like(square_TR), np.zeros_like(square_TR)
    position_MR = np.zeros((n_models, n_replicates), np.float32)
    total_R, first_R, second_R = np.zeros((3, n_replicates), np.float32)
    present = np.zeros(n_models, np.bool_)
    # Unsigned places in a flat table: signed ones would be checked for counting from the end, one by one.
    flat, columns = table.ravel(), np.uintp(table.shape[1])
    for d in range(n_columns):
        x = x_MD[:, d]
        here = x == x
        if d == 0 or (here != present).any():
            present = here
            weighted_targets(y_TM, present, weight_MR, total_R, weighted_TMR, square_TR, cross_TR)
        order = order_DM[d, : present.sum()]
        weighted_positions(order, x, weight_MR, position_MR)
        net_TR[:] = 0
        first_R[:] = 0
        second_R[:] = 0
        for k in order:
            for r in range(n_replicates):
                score = flat[np.uintp(total_R[r]) * columns + np.uintp(position_MR[k, r])]
                position_MR[k, r] = score
                first_R[r] += weight_MR[k, r] * score
                second_R[r] += weight_MR[k, r] * score * score
            for t in range(n_targets):
                for r in range(n_replicates):
                    net_TR[t, r] += position_MR[k, r] * weighted_TMR[t, k, r]
        for t in range(n_targets):
            for r in range(n_replicates):
                spread = second_R[r] - first_R[r] * first_R[r] / max(total_R[r], 1)
                scale = spread * square_TR[t, r]
                # Rounding leaves about 1e-7 of the sum of squares where all scores are equal.
                defined = spread > 1e-6 * second_R[r] and square_TR[t, r] > 0
                rho_TDR[t, d, r] = net_TR[t, r] / np.sqrt(scale) if defined else np.nan
                scale = square_TR[0, r] * square_TR[t, r]
                cross_TDR[t, d, r] = cross_TR[t, r] / np.sqrt(scale) if scale > 0 else np.nan
