package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// deletion is a cluster or fleet resource that `sync --prune` would delete.
type deletion struct {
	source  string
	cluster bool
	// name is as [diff.Name] says it, and short as people do where the kind is clear.
	name, short string
	// consequences are sentences about what goes with it.
	consequences []string
	// declined says why it stays all the same; "" if it may go.
	declined string
}

// kept is a cluster or fleet resource that left Git and stays.
type kept struct{ name, reason string }

// deletions finds what would be deleted, and lets somebody decide about it.
type deletions struct {
	found []deletion
	kept  []kept
}

// findDeletions plans without a bound, since what is over it is refused as a whole, with the count in words.
func (s *session) findDeletions(ctx context.Context) (*deletions, error) {
	var found deletions

	unbounded := slices.Clone(s.sources)
	for i := range unbounded {
		unbounded[i].MaxDelete, unbounded[i].MaxDeleteResources = math.MaxInt, math.MaxInt
	}

	// What goes wrong is said by the pass that writes.
	_, err := s.pass(ctx, sync.Config{Sources: unbounded, OneShot: true, DryRun: true, Logger: zap.NewNop()}, func(engine *sync.Engine, status sync.Status) {
		for i := range status.Targets {
			if t := &status.Targets[i]; t.Plan != nil && (t.Plan.Removed || t.Target == "") {
				found.add(engine, t)
			}
		}
	})

	return &found, err
}

func (d *deletions) add(engine *sync.Engine, t *sync.TargetStatus) {
	why := held(t)
	if t.Plan.Locked {
		why = "the cluster is locked in Omni"
	}

	evidence := engine.Evidence(t.Key)
	consequences := diff.Consequences(t.Plan, diff.Scene{Live: evidence.Live, Desired: evidence.Desired, Whole: evidence.Whole})

	for i := range t.Plan.Changes {
		c := &t.Plan.Changes[i]
		if c.Action != diff.Destroy || t.Target != "" && c.Metadata().Type() != omni.ClusterType {
			continue
		}

		one := deletion{source: t.Source, cluster: t.Target != "", name: diff.Name(c), short: confirmName(c), declined: why}

		for _, told := range consequences {
			if told.Resource != nil && told.Resource.Type() == c.Metadata().Type() && told.Resource.ID() == c.Metadata().ID() {
				one.consequences = append(one.consequences, told.Text)
			}
		}

		d.found = append(d.found, one)
	}

	for _, left := range t.Plan.Kept() {
		d.kept = append(d.kept, kept{diff.Name(left.Resource), left.Reason})
	}
}

// confirmName is what people call what a change is about: edge, MachineClass/worker.
func confirmName(c *diff.Change) string {
	if c.Metadata().Type() == omni.ClusterType {
		return c.Metadata().ID()
	}

	return diff.Kind(c.Metadata().Type()) + "/" + c.Metadata().ID()
}

// open returns what may go as it stands.
func (d *deletions) open() []*deletion {
	var open []*deletion

	for i := range d.found {
		if d.found[i].declined == "" {
			open = append(open, &d.found[i])
		}
	}

	return open
}

// decline has everything stay that could go, of one source or, with "", of all.
func (d *deletions) decline(source, why string) {
	for _, one := range d.open() {
		if source == "" || one.source == source {
			one.declined = why
		}
	}
}

// declineDirty keeps what is gone from directories that differ from what is checked out: nobody else can see that yet, and
// it may be half of a change. It is asked after the directories were read.
func (d *deletions) declineDirty(cfg *config.Config) {
	for i := range cfg.Sources {
		src := &cfg.Sources[i]
		if src.Dir == nil || !slices.ContainsFunc(d.open(), func(one *deletion) bool { return one.source == src.Name }) {
			continue
		}

		checkout, ok := source.CheckoutOf(src.Dir.Path)
		if !ok {
			continue // the engine keeps it
		}

		switch file, err := checkout.Dirty(); {
		case err != nil:
			d.decline(src.Name, "nobody can tell whether everything in "+src.Dir.Path+" is committed: "+err.Error())
		case file != "":
			d.decline(src.Name, file+" has changes that are not committed; commit it first")
		}
	}
}

// declineMany keeps everything if more would go than the bounds of the sources allow, of one source or of all together.
func (d *deletions) declineMany(sources []sync.SourceConfig) {
	for _, kind := range []struct {
		cluster    bool
		noun, flag string
		limit      func(*sync.SourceConfig) int
	}{
		{true, "cluster", "--max-delete", func(src *sync.SourceConfig) int { return src.MaxDelete }},
		{false, "fleet resource", "--max-delete-resources", func(src *sync.SourceConfig) int { return src.MaxDeleteResources }},
	} {
		all, most := []string{}, 0

		for i := range sources {
			names, limit := d.names(sources[i].Name, kind.cluster), kind.limit(&sources[i])
			all, most = append(all, names...), max(most, limit)

			if len(names) > limit {
				d.decline("", tooMany(names, kind.noun, kind.flag, limit))
			}
		}

		if len(all) > most {
			d.decline("", tooMany(all, kind.noun, kind.flag, most))
		}
	}
}

func tooMany(names []string, noun, flag string, limit int) string {
	return fmt.Sprintf("%s would be deleted, and %s allows %d: %s", plural(len(names), noun), flag, limit, joinNames(names))
}

// names returns what could go of a source.
func (d *deletions) names(source string, clusters bool) []string {
	var names []string

	for _, one := range d.open() {
		if (source == "" || one.source == source) && one.cluster == clusters {
			names = append(names, one.short)
		}
	}

	return names
}

// write lists what would go and what stays, each with its reasons.
func (d *deletions) write(w io.Writer) {
	line := func(indent, text string) { fmt.Fprintln(w, indent+oneLine(text)) }

	if open := d.open(); len(open) > 0 {
		line("", "to be deleted:")

		for _, one := range open {
			line("  - ", one.name)

			for _, text := range one.consequences {
				line("      ", text)
			}
		}
	}

	stays := slices.Clone(d.kept)

	for i := range d.found {
		if one := &d.found[i]; one.declined != "" {
			stays = append(stays, kept{one.name, one.declined})
		}
	}

	if len(stays) > 0 {
		line("", "kept, though it left Git:")

		for _, each := range stays {
			line("    ", each.name+": "+each.reason)
		}
	}
}

// question asks for what could go.
func (d *deletions) question() string {
	var counts []string

	clusters, resources := d.names("", true), d.names("", false)
	if len(clusters) > 0 {
		counts = append(counts, plural(len(clusters), "cluster"))
	}

	if len(resources) > 0 {
		counts = append(counts, plural(len(resources), "fleet resource"))
	}

	return "Delete " + strings.Join(counts, " and ") + ": " + oneLine(joinNames(slices.Concat(clusters, resources))) + "? [y/N] "
}

// decide asks for a yes, unless it was given on the command line.
func (d *deletions) decide(ctx context.Context, yes bool, in io.Reader, out io.Writer) error {
	switch {
	case len(d.open()) == 0 || yes:
		return nil
	case !isTerminal(in):
		d.decline("", "nobody agreed: --yes says yes where there is no terminal to ask on")
		fmt.Fprintln(out, "nothing is deleted: there is no terminal to ask on; --yes says yes")

		return nil
	}

	fmt.Fprint(out, d.question())

	agreed, err := askYes(ctx, in)
	if err == nil && !agreed {
		d.decline("", "the answer was no")
		fmt.Fprintln(out, "nothing is deleted")
	}

	return err
}

// askYes reads a line and reports whether it says yes.
func askYes(ctx context.Context, in io.Reader) (bool, error) {
	answer := make(chan string, 1)

	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // what ends early is no yes
		answer <- line
	}()

	select {
	case line := <-answer:
		return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(line))), nil
	case <-ctx.Done():
		return false, cmp.Or(context.Cause(ctx), errors.New("interrupted"))
	}
}

// verdict says what goes, and why the rest stays.
func (d *deletions) verdict() (approved map[string]bool, declined map[string]string) {
	approved, declined = map[string]bool{}, map[string]string{}

	for i := range d.found {
		if one := &d.found[i]; one.declined == "" {
			approved[one.name] = true
		} else {
			declined[one.name] = one.declined
		}
	}

	return approved, declined
}
