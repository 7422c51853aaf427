package main

import (
	"fmt"
	"io"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logFlags choose how the log looks.
type logFlags struct {
	level  string
	format string
}

func (f *logFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.format, "log-format", "text", "text or json")
}

// build returns a logger that writes to w.
func (f *logFlags) build(w io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(f.level)
	if err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", f.level)
	}

	var encoder zapcore.Encoder

	switch f.format {
	case "json":
		cfg := zap.NewProductionEncoderConfig()
		cfg.TimeKey, cfg.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
		encoder = zapcore.NewJSONEncoder(cfg)
	case "text":
		// An error means that it is no stream of the journal's.
		toJournal, _ := journal.StderrIsJournalStream()
		encoder = newTextEncoder(toJournal)
	default:
		return nil, fmt.Errorf("--log-format %q: use text or json", f.format)
	}

	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}
