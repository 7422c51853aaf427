package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// textEncoder writes log lines for people: time, level, message, and fields as
// key=value, with revisions cut to what the eye compares. zap's own console encoder
// writes the fields as JSON.
type textEncoder struct {
	// MapObjectEncoder holds the fields of With.
	*zapcore.MapObjectEncoder
}

var textBuffers = buffer.NewPool()

func newTextEncoder() zapcore.Encoder { return &textEncoder{zapcore.NewMapObjectEncoder()} }

// Clone implements zapcore.Encoder.
func (e *textEncoder) Clone() zapcore.Encoder {
	clone := zapcore.NewMapObjectEncoder()
	maps.Copy(clone.Fields, e.Fields)

	return &textEncoder{clone}
}

// EncodeEntry implements zapcore.Encoder.
func (e *textEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line := textBuffers.Get()

	fmt.Fprintf(line, "%s %-5s %s", entry.Time.Format("15:04:05.000"), entry.Level.CapitalString(), entry.Message)

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

func writeField(line *buffer.Buffer, key string, value any) {
	text := fmt.Sprint(value)

	if key == "revision" {
		text = shortRevision(text)
	}

	if text == "" || strings.ContainsAny(text, " \t\r\n\"=") {
		text = strconv.Quote(text)
	}

	fmt.Fprintf(line, " %s=%s", key, text)
}
