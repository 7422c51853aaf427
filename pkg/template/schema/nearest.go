package schema

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxWord is the length in bytes of the longest word that is compared. No key is that long.
const maxWord = 64

// maxChoices is how many words a message lists at most.
const maxChoices = 8

// Nearest returns the known word that a wrong one was probably meant to be. Upper and lower case are the same. At
// most a third of the letters may be different, and never more than three: "kuberntes" is kubernetes, "foo" is nothing.
// Of two that are equally near, it is the first in alphabetical order.
func Nearest(word string, known []string) (string, bool) {
	if len(word) > maxWord {
		return "", false
	}

	best, at := "", 4

	for _, candidate := range slices.Sorted(slices.Values(known)) {
		if len(candidate) > maxWord {
			continue
		}

		letters := max(utf8.RuneCountInString(word), utf8.RuneCountInString(candidate))
		if d := distance(strings.ToLower(word), strings.ToLower(candidate)); d < at && 3*d <= letters {
			best, at = candidate, d
		}
	}

	return best, best != "" && best != word
}

// DidYouMean returns the end of a message about a wrong word: the known word that was probably meant, or else, if
// they are few, which there are.
func DidYouMean(word string, known []string) string {
	if nearest, ok := Nearest(word, known); ok {
		return fmt.Sprintf(": did you mean %s?", nearest)
	}

	if len(known) == 0 || len(known) > maxChoices {
		return ""
	}

	return ": use one of " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// distance is how many letters must be put in, left out, replaced or swapped with the next to make one word of the other.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)

	for j := range last {
		last[j] = j
	}

	for i := range x {
		row[0] = i + 1

		for j := range y {
			changed := 1
			if x[i] == y[j] {
				changed = 0
			}

			row[j+1] = min(last[j]+changed, last[j+1]+1, row[j]+1)

			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}

		before, last, row = last, row, before
	}

	return last[len(y)]
}
