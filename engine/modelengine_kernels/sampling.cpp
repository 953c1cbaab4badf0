// From rows of scores to tokens. A row's token depends on the row, its options and its random number alone.
//
// The cuts are those of transformers, in its order: temperature, top-k, top-p, min-p. Nothing is sorted that can't be
// chosen: candidates are those above a bound, which is lowered until they are enough.

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "vectors.h"

namespace {

constexpr int64_t PIECE = 512;
// Shares of the best score's weight: the first bound of top-p's candidates, what it falls by, and where it ends.
constexpr float FIRST_BOUND = 1.0f / 64, FALL = 1.0f / 32, LAST_BOUND = 1e-30f;
constexpr int64_t NO_TOKEN = -1;

struct Candidate {
    float score;
    int64_t token;
};

// The better ones first; among equals the first one.
bool is_better(const Candidate& a, const Candidate& b) {
    return a.score > b.score || (a.score == b.score && a.token < b.token);
}

class Row {
public:
    Row(const float* scores, int64_t size, const Draw& draw)
        : scores_(scores), size_(size), draw_(draw), largest_((size + PIECE - 1) / PIECE) {}

    int64_t token() {
        best_ = -std::numeric_limits<float>::infinity();
        bool is_number = true;
        for (size_t p = 0; p < largest_.size(); ++p) {
            largest_[p] = highest_of(p, is_number);
            best_ = std::max(best_, largest_[p]);
        }
        if (!is_number || !std::isfinite(best_)) return NO_TOKEN;
        if (draw_.temperature == 0) return first_of_best();
        const bool has_top_k = draw_.top_k > 0 && draw_.top_k < size_;
        return has_top_k || draw_.top_p < 1 ? pick(candidates(has_top_k)) : pick_of_all();
    }

private:
    int64_t begin(size_t piece) const { return static_cast<int64_t>(piece) * PIECE; }
    int64_t end(size_t piece) const { return std::min(size_, begin(piece) + PIECE); }

    float highest_of(size_t piece, bool& is_number) const {
        vec16 most = splat(-std::numeric_limits<float>::infinity());
        ivec16 bad = {};
        int64_t i = begin(piece);
        for (; i + 16 <= end(piece); i += 16) {
            const vec16 v = load16(scores_ + i);
            most = max16(v, most);
            bad |= v != v;
        }
        float found = highest(most);
        for (int lane = 0; lane < 16; ++lane) is_number &= !bad[lane];
        for (; i < end(piece); ++i) {
            found = std::max(found, scores_[i]);
            is_number &= scores_[i] == scores_[i];
        }
        return found;
    }

    int64_t first_of_best() const {
        for (size_t p = 0; p < largest_.size(); ++p)
            if (largest_[p] == best_) return std::find(scores_ + begin(p), scores_ + end(p), best_) - scores_;
        return NO_TOKEN;
    }

    // Relative to that of the best score, which is 1.
    vec16 weights(vec16 scores) const { return exp16((scores - splat(best_)) / splat(draw_.temperature)); }
    float weight(float score) const { return weights(splat(score))[0]; }

    // The weight that counts in the draw: nothing below min-p.
    float drawn(float score) const {
        const float w = weight(score);
        return w >= draw_.min_p ? w : 0;
    }

    double sum_of(size_t piece, float least) const {
        vec16 sum = {};
        int64_t i = begin(piece);
        for (; i + 16 <= end(piece); i += 16) {
            const vec16 w = weights(load16(scores_ + i));
            sum += w >= splat(least) ? w : splat(0.0f);
        }
        double all = total(sum);
        for (; i < end(piece); ++i) all += weight(scores_[i]) >= least ? weight(scores_[i]) : 0;
        return all;
    }

    // In the order of the tokens.
    int64_t pick_of_all() const {
        std::vector<double> sums(largest_.size());
        double all = 0;
        for (size_t p = 0; p < sums.size(); ++p) all += sums[p] = sum_of(p, draw_.min_p);
        double left = draw_.uniform * all;
        int64_t chosen = NO_TOKEN;
        for (size_t p = 0; p < sums.size(); ++p) {
            if (left >= sums[p]) {
                left -= sums[p];
                continue;
            }
            for (int64_t i = begin(p); i < end(p); ++i) {
                const float w = drawn(scores_[i]);
                if (w > 0) chosen = i;
                if (left < w) return i;
                left -= w;
            }
            // Rounding has left a little more than there is: the last one then.
            return chosen;
        }
        return first_of_best();
    }

    std::vector<Candidate> above(float bound) const {
        std::vector<Candidate> found;
        for (size_t p = 0; p < largest_.size(); ++p)
            for (int64_t i = begin(p); largest_[p] >= bound && i < end(p); ++i)
                if (scores_[i] >= bound) found.push_back({scores_[i], i});
        return found;
    }

    // What is left after all cuts.
    std::vector<Candidate> candidates(bool has_top_k) const {
        std::vector<Candidate> found;
        double all = 0;
        if (has_top_k) {
            found = best_ones(draw_.top_k);
            for (const Candidate& c : found) all += weight(c.score);
        } else {
            for (size_t p = 0; p < largest_.size(); ++p) all += sum_of(p, 0);
            found = heaviest(draw_.top_p * all);
        }
        if (draw_.top_p < 1) {
            const double enough = draw_.top_p * all;
            found.resize(1 + last_before(found, [=](double before) { return before < enough; }));
        }
        const auto is_cut = [this](const Candidate& c) { return drawn(c.score) == 0; };
        found.erase(std::remove_if(found.begin(), found.end(), is_cut), found.end());
        return found;
    }

    std::vector<Candidate> best_ones(int64_t count) const {
        // As many pieces have one that is at least this, so nothing below is among the best.
        float bound = -std::numeric_limits<float>::infinity();
        if (count <= static_cast<int64_t>(largest_.size())) {
            std::vector<float> sorted = largest_;
            std::nth_element(sorted.begin(), sorted.begin() + (count - 1), sorted.end(), std::greater<>());
            bound = sorted[count - 1];
        }
        std::vector<Candidate> found = above(bound);
        std::nth_element(found.begin(), found.begin() + (count - 1), found.end(), is_better);
        found.resize(count);
        return found;
    }

    // Those above a bound, so many that their weights come to `enough`.
    std::vector<Candidate> heaviest(double enough) const {
        for (float share = FIRST_BOUND; share >= LAST_BOUND; share *= FALL) {
            std::vector<Candidate> found = above(best_ + draw_.temperature * std::log(share));
            double sum = 0;
            for (const Candidate& c : found) sum += weight(c.score);
            if (sum >= enough) return found;
        }
        return above(-std::numeric_limits<float>::infinity());
    }

    // The last candidate, the better ones first, for which the weights of those before it are as wanted. All before it
    // in the result are better, all after it worse; nothing else is sorted.
    template <typename IsWanted>
    size_t last_before(std::vector<Candidate>& among, const IsWanted& is_wanted) const {
        size_t begin = 0, end = among.size();
        double before = 0;
        while (end - begin > 1) {
            const size_t middle = begin + (end - begin) / 2;
            std::nth_element(among.begin() + begin, among.begin() + middle, among.begin() + end, is_better);
            double sum = before;
            for (size_t i = begin; i < middle; ++i) sum += weight(among[i].score);
            if (is_wanted(sum)) {
                before = sum;
                begin = middle;
            } else {
                end = middle;
            }
        }
        return begin;
    }

    int64_t pick(std::vector<Candidate> from) const {
        double all = 0;
        for (const Candidate& c : from) all += weight(c.score);
        const double mark = draw_.uniform * all;
        return from[last_before(from, [=](double before) { return before <= mark; })].token;
    }

    const float* scores_;
    const int64_t size_;
    const Draw draw_;
    std::vector<float> largest_;  // of each piece
    float best_ = 0;
};

}  // namespace

extern "C" void me_sample(const float* scores, int64_t rows, int64_t size, const Draw* draws, int64_t* tokens,
                          int threads) {
    parallel_for(rows * size > ALONE ? threads : 1, rows,
                 [=](int64_t r) { tokens[r] = Row(scores + r * size, size, draws[r]).token(); });
}
