package sync

import (
	"context"

	"github.com/omni-syncd/omni-syncd/pkg/source"
)

// Once is a Source that looks a single time: for a one-shot sync or diff.
func Once(fetch func(context.Context) (source.Revision, error)) Source { return once(fetch) }

type once func(context.Context) (source.Revision, error)

// Watch implements [Source].
func (fetch once) Watch(ctx context.Context, fn func(source.Revision, error)) error {
	fn(fetch(ctx))
	<-ctx.Done()

	return nil
}
