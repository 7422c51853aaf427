package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// textEncoder writes log lines for people: time, level, message, and fields as
// key=value, with revisions cut to what the eye compares. zap's own console encoder
// writes the fields as JSON.
type textEncoder struct {
	// MapObjectEncoder holds the fields of With.
	*zapcore.MapObjectEncoder
	// journal leaves the time to journald, which has one, and gives it the level as the
	// prefix of sd-daemon(3), for `journalctl --priority`.
	journal bool
}

var textBuffers = buffer.NewPool()

func newTextEncoder(journal bool) zapcore.Encoder {
	return &textEncoder{zapcore.NewMapObjectEncoder(), journal}
}

// Clone implements zapcore.Encoder.
func (e *textEncoder) Clone() zapcore.Encoder {
	clone := zapcore.NewMapObjectEncoder()
	maps.Copy(clone.Fields, e.Fields)

	return &textEncoder{clone, e.journal}
}

// EncodeEntry implements zapcore.Encoder.
func (e *textEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line := textBuffers.Get()

	if e.journal {
		fmt.Fprintf(line, "<%d>", priority(entry.Level))
	} else {
		fmt.Fprint(line, entry.Time.Format("15:04:05.000"), " ")
	}

	fmt.Fprintf(line, "%-5s %s", entry.Level.CapitalString(), entry.Message)

	for _, field := range fields {
		if field.Type == zapcore.SkipType {
			continue
		}

		value := zapcore.NewMapObjectEncoder()
		field.AddTo(value)
		writeField(line, field.Key, value.Fields[field.Key])
	}

	for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
		writeField(line, key, e.Fields[key])
	}

	line.AppendByte('\n')

	return line, nil
}

// priority is the level in syslog's numbers.
func priority(level zapcore.Level) int {
	switch {
	case level >= zapcore.ErrorLevel:
		return 3
	case level == zapcore.WarnLevel:
		return 4
	case level == zapcore.InfoLevel:
		return 6
	default:
		return 7
	}
}

func writeField(line *buffer.Buffer, key string, value any) {
	text := fmt.Sprint(value)

	if key == "revision" {
		text = shortRevision(text)
	}

	if text == "" || strings.ContainsFunc(text, needsQuotes) {
		text = strconv.Quote(text)
	}

	fmt.Fprintf(line, " %s=%s", key, text)
}

// needsQuotes reports whether a field with r in it cannot stand as it is: it would not be
// told from the next one, or do something to a terminal.
func needsQuotes(r rune) bool { return r == ' ' || r == '"' || r == '=' || !unicode.IsPrint(r) }
