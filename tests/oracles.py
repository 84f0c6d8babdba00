"""Slow, literal twins of every fast path: loops over pixels, written from the definition and nothing else."""

import numpy as np
import torch
import torch.nn.functional as F

# ---------------------------------------------------------------- SRT: Algorithm 1, pixel by pixel


def srt_per_pixel(extract, image, shifts, patch, border):
    """Algorithm 1 with loops: shift, extract, repeat each token over its pixels, shift back, average, pool.

    image: (3, H, W) array; extract: (3, H, W) array -> (C, h, w) array. Everything in float64.
    """
    _, height, width = image.shape
    total = count = None
    for dy, dx in shifts:
        moved = np.zeros_like(image)
        for y in range(height):
            for x in range(width):
                sy, sx = y - dy, x - dx
                if border == "edge":
                    sy, sx = min(max(sy, 0), height - 1), min(max(sx, 0), width - 1)
                if 0 <= sy < height and 0 <= sx < width:
                    moved[:, y, x] = image[:, sy, sx]
        tokens = extract(moved)
        if total is None:
            total = np.zeros((tokens.shape[0], height, width))
            count = np.zeros((height, width))
        for y in range(height):
            for x in range(width):
                sy, sx = y + dy, x + dx
                if border == "edge":
                    sy, sx = min(max(sy, 0), height - 1), min(max(sx, 0), width - 1)
                if 0 <= sy < height and 0 <= sx < width:
                    total[:, y, x] += tokens[:, sy // patch, sx // patch]
                    count[y, x] += 1
    mean = total / (count if border == "zeros_counted" else len(shifts))
    channels = mean.shape[0]
    return mean.reshape(channels, height // patch, patch, width // patch, patch).mean((2, 4))


def shifts_per_pixel(extract, image, shifts, patch, border, statistic, scale=1):
    """A statistic over the shifts of every pixel of the aligned maps, then the mean of each cell of patch/scale pixels.

    image: (3, H, W) array; extract as above; statistic: (T, C, H, W), (T, H, W) whether present -> (C, H, W).
    """
    _, height, width = image.shape
    values, present = [], np.zeros((len(shifts), height, width), dtype=bool)
    for t, (dy, dx) in enumerate(shifts):
        moved = np.zeros_like(image)
        for y in range(height):
            for x in range(width):
                sy, sx = y - dy, x - dx
                if border == "edge":
                    sy, sx = min(max(sy, 0), height - 1), min(max(sx, 0), width - 1)
                if 0 <= sy < height and 0 <= sx < width:
                    moved[:, y, x] = image[:, sy, sx]
        tokens = extract(moved)
        aligned = np.zeros((tokens.shape[0], height, width))
        for y in range(height):
            for x in range(width):
                sy, sx = y + dy, x + dx
                if border == "edge":
                    sy, sx = min(max(sy, 0), height - 1), min(max(sx, 0), width - 1)
                if 0 <= sy < height and 0 <= sx < width:
                    aligned[:, y, x] = tokens[:, sy // patch, sx // patch]
                    present[t, y, x] = True
        values.append(aligned)
    result, cell = statistic(np.stack(values), present), patch // scale
    return result.reshape(len(result), height // cell, cell, width // cell, cell).mean((2, 4))


def flip_mean_per_pixel(extract, image):
    """Mean of a map and of the mirrored image's map, read from right to left. image: (3, H, W) -> (C, h, w)."""
    mirrored = np.empty_like(image)
    for x in range(image.shape[2]):
        mirrored[:, :, image.shape[2] - 1 - x] = image[:, :, x]
    plain, other = extract(image), extract(mirrored)
    mean = np.empty_like(plain)
    for x in range(plain.shape[2]):
        mean[:, :, x] = (plain[:, :, x] + other[:, :, plain.shape[2] - 1 - x]) / 2
    return mean


# ------------------------------------------------------------------------------------------------------- visualization


def pca_colors_by_svd(maps: list[np.ndarray]) -> list[np.ndarray]:
    """RGB of maps (C, h, w) under one projection: tokens stacked with equal weight a map, SVD in fp64, 1–99% range."""
    rows = [features.reshape(features.shape[0], -1).T.astype(np.float64) for features in maps]
    mean = np.mean([tokens.mean(0) for tokens in rows], axis=0)
    stacked = np.concatenate([(tokens - mean) / np.sqrt(len(tokens)) for tokens in rows])
    directions = np.linalg.svd(stacked, full_matrices=False)[2][:3]
    directions *= np.sign([row[np.abs(row).argmax()] for row in directions])[:, None]
    values = [(tokens - mean) @ directions.T for tokens in rows]
    low = np.min([np.quantile(v, 0.01, axis=0) for v in values], axis=0)
    high = np.max([np.quantile(v, 0.99, axis=0) for v in values], axis=0)
    return [((v - low) / (high - low)).clip(0, 1).T.reshape(3, *m.shape[1:]) for v, m in zip(values, maps, strict=True)]


def noise_pixel_by_pixel(features: np.ndarray, single: np.ndarray) -> np.ndarray:
    """‖features − single‖ at each position of the finer field (C, h, w), its token looked up by division."""
    rows, columns = features.shape[1] // single.shape[1], features.shape[2] // single.shape[2]
    noise = np.empty(features.shape[1:])
    for y in range(features.shape[1]):
        for x in range(features.shape[2]):
            noise[y, x] = np.linalg.norm(features[:, y, x] - single[:, y // rows, x // columns])
    return noise


# ------------------------------------------------------------------------------------------------- DAVIS scores: J, F


def boundary_by_pixel(mask: np.ndarray) -> np.ndarray:
    """Outline of a mask (H, W): last row by the right neighbour only, last column by the lower only, corner never."""
    height, width = mask.shape
    outline = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            below, right = y + 1 < height, x + 1 < width
            if right and mask[y, x] != mask[y, x + 1]:
                outline[y, x] = True
            if below and mask[y, x] != mask[y + 1, x]:
                outline[y, x] = True
            if below and right and mask[y, x] != mask[y + 1, x + 1]:
                outline[y, x] = True
    return outline


def boundary_accuracy_by_distance(target: np.ndarray, predicted: np.ndarray) -> float:
    """F from the distance of every outline pixel to every other on the full frame."""
    radius = int(np.ceil(0.008 * np.linalg.norm(target.shape)))
    of_target, of_predicted = (np.argwhere(boundary_by_pixel(mask)) for mask in (target, predicted))
    if len(of_predicted) == 0 and len(of_target) > 0:
        precision, recall = 1.0, 0.0
    elif len(of_predicted) > 0 and len(of_target) == 0:
        precision, recall = 0.0, 1.0
    elif len(of_predicted) == 0 and len(of_target) == 0:
        precision, recall = 1.0, 1.0
    else:
        near = ((of_predicted[:, None] - of_target[None]) ** 2).sum(-1) <= radius**2
        precision = near.any(1).sum() / float(len(of_predicted))
        recall = near.any(0).sum() / float(len(of_target))
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def region_similarity_by_pixel(target: np.ndarray, predicted: np.ndarray) -> float:
    """J by counting."""
    both = either = 0
    for a, b in zip(target.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        both += a and b
        either += a or b
    return 1.0 if either == 0 else both / either


# ------------------------------------------------------------------------------ label propagation, as in DINO's script


def propagate_labels_dense(
    query: torch.Tensor, context: torch.Tensor, labels: torch.Tensor, radius: int, top_k: int, temperature: float
) -> torch.Tensor:
    """All pairs: exp of the scaled cosine, times the window, those below the k-th largest set to 0, renormalised.

    query: (C, h, w); context: (N, C, h, w); labels: (N, K, h, w) -> (K, h, w). Radius 0 means no window, as there.
    """
    num_context, channels, height, width = context.shape
    tokens = height * width
    queries = F.normalize(query.reshape(channels, tokens).T, dim=1)
    keys = F.normalize(context.reshape(num_context, channels, tokens), dim=1)
    affinity = torch.exp(torch.bmm(queries.unsqueeze(0).repeat(num_context, 1, 1), keys) / temperature)
    if radius > 0:
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        row, column = row.reshape(-1), column.reshape(-1)
        window = ((row[:, None] - row).abs() <= radius) & ((column[:, None] - column).abs() <= radius)
        affinity *= window.float().unsqueeze(0).repeat(num_context, 1, 1)
    affinity = affinity.transpose(2, 1).reshape(-1, tokens)
    kth = torch.topk(affinity, k=top_k, dim=0).values.min(dim=0).values
    affinity[affinity < kth] = 0
    affinity = affinity / affinity.sum(dim=0, keepdim=True)
    flat = labels.reshape(num_context, labels.shape[1], tokens).transpose(2, 1).reshape(-1, labels.shape[1]).T
    return (flat @ affinity).reshape(-1, height, width)


def propagate_video_dense(
    features: list[torch.Tensor], first_labels: torch.Tensor, patch: int, num_context: int, radius: int, top_k: int
) -> list[np.ndarray]:
    """Ids (h·p, w·p) of all frames but the first, from maps (C, h, w) and one-hot labels (K, h, w) of the first."""
    previous: list[tuple[torch.Tensor, torch.Tensor]] = []
    masks = []
    for query in features[1:]:
        context = [(features[0], first_labels), *previous]
        soft = propagate_labels_dense(
            query, torch.stack([c[0] for c in context]), torch.stack([c[1] for c in context]), radius, top_k, 0.1
        )
        previous = [*previous, (query, soft)][-num_context:]
        large = F.interpolate(soft[None], scale_factor=float(patch), mode="bilinear", align_corners=False)[0]
        for channel in large:
            if channel.max() - channel.min() > 1e-5 * channel.max():  # the script: max > 0, and 0 / 0 where constant
                channel -= channel.min().item()
                channel /= channel.max().item()
        masks.append(large.argmax(0).numpy().astype(np.uint8))
    return masks


# ---------------------------------------------------------------- baselines


def interpolate_literally(features, patch, mode):
    """Features (B, C, h, w) interpolated to pixels, and every cell of pixels averaged."""
    size = features.shape[-2] * patch, features.shape[-1] * patch
    return F.avg_pool2d(F.interpolate(features, size, mode=mode, align_corners=False), patch)


# ---------------------------------------------------------------- other averages: scales, wide shifts, second order


def area_weights_by_counting(num_given, num_wanted):
    """Shares by counting: a line of num_given x num_wanted pixels, cut into either number of equal cells."""
    weights = np.zeros((num_wanted, num_given))
    for pixel in range(num_given * num_wanted):
        weights[pixel // num_given, pixel // num_wanted] += 1 / num_given
    return weights


def wide_mean_per_pixel(extract, image, shifts, patch, border):
    """Mean over shifts of any length with loops over pixels; "counted" divides by the views that show a pixel's token.

    image: (3, H, W) array; extract: (3, H, W) array -> (C, h, w) array. Counts are of pixels, pooled before dividing.
    """
    _, height, width = image.shape

    def source(y, x):
        if border == "circular":
            return y % height, x % width
        return min(max(y, 0), height - 1), min(max(x, 0), width - 1)

    total = count = None
    for dy, dx in shifts:
        moved = np.zeros_like(image)
        for y in range(height):
            for x in range(width):
                sy, sx = source(y - dy, x - dx)
                moved[:, y, x] = image[:, sy, sx]
        tokens = extract(moved)
        if total is None:
            total, count = np.zeros((tokens.shape[0], height, width)), np.zeros((height, width))
        for y in range(height):
            for x in range(width):
                if border == "counted" and not (0 <= y + dy < height and 0 <= x + dx < width):
                    continue
                sy, sx = source(y + dy, x + dx)
                total[:, y, x] += tokens[:, sy // patch, sx // patch]
                count[y, x] += 1
    cells = (height // patch, patch, width // patch, patch)
    return total.reshape(-1, *cells).mean((2, 4)) / count.reshape(cells).mean((1, 3))


def project_out_literally(features, black, num_directions):
    """Features (C, N) less their components along the leading left singular vectors of unit, centred tokens (C, N)."""
    unit = black / np.linalg.norm(black, axis=0)
    directions = np.linalg.svd(unit - unit.mean(1, keepdims=True), full_matrices=False)[0][:, :num_directions]
    result = features.copy()
    for direction in directions.T:
        result -= np.outer(direction, direction @ result)
    return result


# ---------------------------------------------------------------- data: windows, names


def cut_window_of_whole(image, size, top, left, height, width):
    """The window of an RGB image that is resized as a whole, as (3, height, width)."""
    from PIL import Image

    resized = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return torch.from_numpy(resized[top : top + height, left : left + width].transpose(2, 0, 1).copy())


def natural_key(name):
    """A name as people sort it: its letters one by one, its numbers as numbers, which come where their digits did."""
    import re

    parts = re.split("([0-9]+)", name)
    return [("0", int(part)) if part.isdigit() else (letter, 0) for part in parts for letter in _letters(part)]


def _letters(part):
    return [part] if part.isdigit() else list(part)


# ------------------------------------------------------------------------- tasks with heads: depth and segmentation


def depth_scores_by_pixel(predicted, truth, low, high, eigen=False, median=False):
    """Scores of one depth map, one pixel at a time."""
    pairs = []
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            inside = not eigen or (45 <= y < 471 and 41 <= x < 601)
            if inside and low < truth[y, x] < high:
                pairs.append((float(predicted[y, x]), float(truth[y, x])))
    if median:
        middle = [sorted(values)[len(values) // 2] for values in zip(*pairs)]  # odd numbers of pixels only
        pairs = [(p * middle[1] / middle[0], g) for p, g in pairs]
    n = len(pairs)
    scores = {
        "RMSE": (sum((p - g) ** 2 for p, g in pairs) / n) ** 0.5,
        "RMSE_log": (sum((np.log(p) - np.log(g)) ** 2 for p, g in pairs) / n) ** 0.5,
        "AbsRel": sum(abs(p - g) / g for p, g in pairs) / n,
        "SqRel": sum((p - g) ** 2 / g for p, g in pairs) / n,
    }
    for k in (1, 2, 3):
        scores[f"a{k}"] = sum(max(p / g, g / p) < 1.25**k for p, g in pairs) / n
    return scores


def silog_by_pixel(predicted, truth, with_variance):
    """√(var(g) + .15 mean(g)²) of g = ln(p + .001) − ln(t + .001) over all pixels of the batch with a truth."""
    g = [np.log(p + 0.001) - np.log(t + 0.001) for p, t in zip(predicted.flat, truth.flat) if t > 0]
    mean = sum(g) / len(g)
    variance = sum((value - mean) ** 2 for value in g) / (len(g) - 1)
    return ((variance if with_variance else 0) + 0.15 * mean**2) ** 0.5


def log_gradient_by_pixel(predicted, truth):
    """At strides 1, 2, 4, 6: |difference of g two pixels apart| where both ends have a truth, by pixels with one."""
    total = 0.0
    for stride in (1, 2, 4, 6):
        p, t = predicted[:, ::stride, ::stride], truth[:, ::stride, ::stride]
        images, height, width = t.shape
        known, summed = 0, 0.0
        for b in range(images):
            for y in range(height):
                for x in range(width):
                    if t[b, y, x] <= 0:
                        continue
                    known += 1
                    here = np.log(p[b, y, x] + 0.001) - np.log(t[b, y, x] + 0.001)
                    for v, u in ((y + 2, x), (y, x + 2)):
                        if v < height and u < width and t[b, v, u] > 0:
                            summed += abs(np.log(p[b, v, u] + 0.001) - np.log(t[b, v, u] + 0.001) - here)
        total += summed / known if known else 0.0
    return total


def linear_bins_literally(maps, weight, bias, low, high):
    """The linear depth head in the order its source has: expand, stack, upsample ×4, one linear map a pixel, bins."""
    size = maps[0].shape[-2:]
    stacked = torch.cat([m.expand(*m.shape[:2], *size) for m in maps], 1)
    stacked = F.interpolate(stacked, scale_factor=4, mode="bilinear", align_corners=False)
    logits = torch.einsum("bchw,nc->bnhw", stacked, weight) + bias[None, :, None, None]
    weights = torch.relu(logits) + 0.1
    probabilities = weights / weights.sum(1, keepdim=True)
    step = (high - low) / (len(bias) - 1)
    return sum(probabilities[:, n] * (low + n * step) for n in range(len(bias)))


def pooled_segmentation_by_pixel(pairs, num_classes):
    """mIoU, aAcc, mAcc of (predicted, truth) label images, -1 void, from sets of pixels over the whole data set."""
    both, either, truth_of = ([0] * num_classes for _ in range(3))
    for predicted, truth in pairs:
        for p, t in zip(predicted.flat, truth.flat):
            if t == -1:
                continue
            for k in range(num_classes):
                both[k] += p == k and t == k
                either[k] += p == k or t == k
                truth_of[k] += t == k
    ious = [b / e for b, e in zip(both, either) if e]
    recalls = [b / t for b, t in zip(both, truth_of) if t]
    return {
        "mIoU": sum(ious) / len(ious),
        "aAcc": sum(both) / sum(truth_of),
        "mAcc": sum(recalls) / len(recalls),
    }


def token_labels_by_pixel(labels, patch, num_classes):
    """Share of each class among the labelled pixels of each token."""
    rows, columns = labels.shape[0] // patch, labels.shape[1] // patch
    shares = np.zeros((num_classes, rows, columns))
    for r in range(rows):
        for c in range(columns):
            cell = [labels[r * patch + y, c * patch + x] for y in range(patch) for x in range(patch)]
            known = [label for label in cell if label != -1]
            for k in range(num_classes):
                shares[k, r, c] = known.count(k) / len(known) if known else 0
    return shares


def neighbours_one_by_one(queries, memory, labels, num_neighbours, temperature):
    """Labels of the most similar memory tokens of each query, weighted by exp(cosine / T)."""
    found = []
    for query in queries:
        cosines = [float(query @ token / np.linalg.norm(query) / np.linalg.norm(token)) for token in memory]
        nearest = sorted(range(len(memory)), key=lambda m: -cosines[m])[:num_neighbours]
        weights = [np.exp((cosines[m] - cosines[nearest[0]]) / temperature) for m in nearest]
        found.append(sum(w * labels[m] for w, m in zip(weights, nearest)) / sum(weights))
    return np.stack(found)


def sliding_mean_by_pixel(score, height, width, window, stride, num_classes):
    """Mean over all windows that hold a pixel of `score(top, left, bottom, right)` there, as mmsegmentation."""
    total, count = np.zeros((num_classes, height, width)), np.zeros((height, width))
    for row in range(max(height - window + stride - 1, 0) // stride + 1):
        for column in range(max(width - window + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + window, height), min(column * stride + window, width)
            top, left = max(bottom - window, 0), max(right - window, 0)
            total[:, top:bottom, left:right] += score(top, left, bottom, right)
            count[top:bottom, left:right] += 1
    return total / count


# ---------------------------------------------------------------- retrieval and kNN


def average_precision_by_curve(ranking, positives, junk):
    """Area under precision over recall by trapezoids, walking down the ranking with junk crossed out."""
    kept = [index for index in ranking if index not in junk]
    area, found, last_recall, last_precision = 0.0, 0, 0.0, 1.0
    for place, index in enumerate(kept, start=1):
        if index not in positives:
            last_precision = found / place
            continue
        found += 1
        recall, precision = found / len(positives), found / place
        area += (recall - last_recall) * (last_precision + precision) / 2
        last_recall, last_precision = recall, precision
    return area


def knn_class_by_votes(similarities, labels, k, temperature, own=None):
    """The winner of a vote among the k most similar, one by one; equal similarities and votes by lower index."""
    order = sorted((i for i in range(len(labels)) if i != own), key=lambda i: (-similarities[i], i))
    votes = {}
    for i in order[:k]:
        votes[labels[i]] = votes.get(labels[i], 0.0) + np.exp(similarities[i] / temperature)
    return min(votes, key=lambda label: (-votes[label], label))


# ---------------------------------------------------------------- salient regions and objects


def token_cut_literally(features, threshold=0.2, weak_edge=1e-5):
    """TokenCut as its script has it: (C, h, w) -> eigenvector (N,) by dense eigh, foreground (h, w) by a walk."""
    from scipy.linalg import eigh

    _, height, width = features.shape
    tokens = [features[:, i // width, i % width] for i in range(height * width)]
    tokens = [token / np.linalg.norm(token) for token in tokens]
    count = len(tokens)
    weights = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            weights[i, j] = 1.0 if tokens[i] @ tokens[j] > threshold else weak_edge
    degrees = np.diag(weights.sum(1))
    _, vectors = eigh(degrees - weights, degrees, subset_by_index=[1, 2])
    vector = vectors[:, 0]
    inside = vector > vector.sum() / count
    seed = int(np.argmax(np.abs(vector)))
    if not inside[seed]:
        vector, inside = -vector, ~inside
    return vector, walk_from(inside.reshape(height, width), seed)


def lost_literally(features, num_candidates=100):
    """LOST with loops: (C, h, w) -> region (h, w)."""
    _, height, width = features.shape
    tokens = [features[:, i // width, i % width] for i in range(height * width)]
    products = np.array([[a @ b for b in tokens] for a in tokens])
    degrees = [sum(products[i, j] > 0 for j in range(len(tokens)) if j != i) for i in range(len(tokens))]
    order = sorted(range(len(tokens)), key=lambda i: (degrees[i], i))
    seed = order[0]
    similar = [s for s in order[:num_candidates] if products[seed, s] > 0]
    total = sum(products[s] for s in similar)
    return walk_from((total > 0).reshape(height, width), seed)


def walk_from(inside, seed):
    """Tokens of a region that can be reached from the seed by steps up, down, left and right within it."""
    height, width = inside.shape
    reached, waiting = np.zeros_like(inside), [(seed // width, seed % width)]
    while waiting:
        row, column = waiting.pop()
        if 0 <= row < height and 0 <= column < width and inside[row, column] and not reached[row, column]:
            reached[row, column] = True
            waiting += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return reached


def bilateral_solver_dense(image, target, smoothness=256.0, confidence=0.999):
    """The bilateral solver's linear system, built pixel by pixel as dense matrices, and solved exactly."""
    height, width, _ = image.shape
    vertices, vertex_of = {}, []
    for y in range(height):
        for x in range(width):
            r, g, b = (float(value) for value in image[y, x])
            luma = 0.299 * r + 0.587 * g + 0.114 * b
            blue = 128 - 0.168736 * r - 0.331264 * g + 0.5 * b
            red = 128 + 0.5 * r - 0.418688 * g - 0.081312 * b
            key = (int(x / 16), int(y / 16), int(luma / 16), int(blue / 8), int(red / 8))
            vertex_of.append(vertices.setdefault(key, len(vertices)))
    splat = np.zeros((len(vertices), height * width))
    splat[vertex_of, np.arange(height * width)] = 1
    blur = 10 * np.eye(len(vertices))
    for first, i in vertices.items():
        for second, j in vertices.items():
            if sum(abs(a - b) for a, b in zip(first, second)) == 1:
                blur[i, j] = 1
    mass, n = splat.sum(1), np.ones(len(vertices))
    for _ in range(10):
        n = np.sqrt(n * mass / (blur @ n))
    mass = n * (blur @ n)
    weights = np.full(height * width, confidence)
    system = smoothness * (np.diag(mass) - np.diag(n) @ blur @ np.diag(n)) + np.diag(splat @ weights)
    return (splat.T @ np.linalg.solve(system, splat @ (weights * target.ravel()))).reshape(height, width)


def f_by_threshold(prediction, truth):
    """TokenCut's F of one image, threshold by threshold."""
    curve = []
    for k in range(255):
        predicted = prediction > k / 255
        hits = (predicted & truth).sum()
        precision = hits / predicted.sum() if predicted.sum() else 1.0
        recall = hits / truth.sum() if truth.sum() else 1.0
        curve.append(1.3 * precision * recall / (0.3 * precision + recall) if precision + recall else 0.0)
    return curve


def toolbox_by_threshold(predictions, masks):
    """maxF and mean absolute error of the public toolbox, from maps and masks in bytes."""
    precisions, recalls, errors = [], [], []
    for prediction, mask in zip(predictions, masks):
        truth, values = mask / 255 >= 0.1, prediction.astype(float)
        stretched = (values - values.min()) / (values.max() - values.min()) if values.max() > values.min() else values
        errors.append(np.abs(stretched - truth).mean())
        if values.max() == 0:
            continue
        kept = [values / values.max() >= k / 255 for k in range(256)]
        hits = [(predicted & truth).sum() for predicted in kept]
        precisions.append([h / p.sum() if p.sum() else 0.0 for h, p in zip(hits, kept)])
        recalls.append([h / truth.sum() if truth.sum() else 0.0 for h in hits])
    precision, recall = np.mean(precisions, 0), np.mean(recalls, 0)
    return max(1.3 * p * r / (0.3 * p + r) if p + r else 0.0 for p, r in zip(precision, recall)), np.mean(errors)


def box_overlap_by_pixel(first, second):
    """Intersection over union of two boxes by counting pixels."""
    covered = [
        {(x, y) for x in range(left, right) for y in range(top, bottom)} for left, top, right, bottom in (first, second)
    ]
    return len(covered[0] & covered[1]) / len(covered[0] | covered[1])


# ---------------------------------------------------------------- relations between tokens


def relation_distance_literally(student, target, temperature, radius):
    """KL between softmaxes of cosine similarities in a window, token by token, in float64."""
    import math

    batch, _, height, width = student.shape
    places = [(y, x) for y in range(height) for x in range(width)]

    def chances(maps, b, here):
        apart = {p: max(abs(p[0] - here[0]), abs(p[1] - here[1])) for p in places}
        near = [p for p in places if p != here and (radius is None or apart[p] <= radius)]
        vector = maps[b, :, here[0], here[1]].double()
        scores = []
        for y, x in near:
            other = maps[b, :, y, x].double()
            scores.append(math.exp(float(vector @ other / vector.norm() / other.norm()) / temperature))
        return [score / sum(scores) for score in scores]

    total = 0.0
    for b in range(batch):
        for here in places:
            pairs = zip(chances(student, b, here), chances(target, b, here), strict=True)
            total += sum(t * math.log(t / s) for s, t in pairs)
    return total / (batch * len(places))
