package diff

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
)

// encodeMark returns the value of a mark. It is ASCII: Omni refuses control characters in an annotation, and names of
// files and authors may have some that JSON leaves as they are.
func encodeMark(v any) string {
	value, _ := json.Marshal(v) // strings and lists of them cannot fail

	var ascii strings.Builder

	for _, r := range string(value) {
		if r >= ' ' && r <= '~' {
			ascii.WriteRune(r)

			continue
		}

		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&ascii, `\u%04x`, unit)
		}
	}

	return ascii.String()
}
