package template_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf16"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// TestUTF16 wants a template that an editor saved in UTF-16 to be told, and not left out: that would look like a deletion.
func TestUTF16(t *testing.T) {
	for name, order := range map[string]interface {
		binary.ByteOrder
		binary.AppendByteOrder
	}{"little-endian": binary.LittleEndian, "big-endian": binary.BigEndian} {
		for _, mark := range []string{"", "\ufeff"} {
			encoded := func(text string) []byte {
				var data []byte
				for _, unit := range utf16.Encode([]rune(mark + text)) {
					data = order.AppendUint16(data, unit)
				}

				return data
			}

			_, problems := template.Find(fstest.MapFS{
				"a.yaml": {Data: encoded("kind: Cluster\nname: a\n")}, "b.yaml": {Data: encoded("replicas: 3\n")},
			}, template.Scope{})

			if len(problems) != 1 || problems[0].File != "a.yaml" || !strings.Contains(problems[0].Message, name) {
				t.Errorf("%s %q: %v", name, mark, problems)
			}
		}
	}
}

func TestLines(t *testing.T) {
	lines := template.Lines([]byte("\ufeffone\r\ntwo\u2028three\n\nfive"))

	for number, want := range map[int]string{1: "one", 2: "two", 3: "three", 4: "", 5: "five"} {
		if got, ok := lines(number); !ok || got != want {
			t.Errorf("line %d is %q", number, got)
		}
	}

	for _, number := range []int{-1, 0, 6} {
		if got, ok := lines(number); ok {
			t.Errorf("there is a line %d: %q", number, got)
		}
	}
}
