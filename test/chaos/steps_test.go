package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// step is one thing that happens. Everything random in it was drawn when it was made.
type step struct {
	n       int
	name    string
	a, b, c uint64
	pause   time.Duration // after it
	do      func(context.Context, *world, step) string
}

func (s step) String() string { return fmt.Sprintf("%4d %s(%d, %d, %d)", s.n, s.name, s.a, s.b, s.c) }

// kinds are what can happen, and how often relative to each other.
var kinds = []struct {
	name   string
	weight int
	do     func(context.Context, *world, step) string
}{
	{"git add", 4, gitAdd},
	{"git remove", 4, gitRemove},
	{"git remove two", 3, gitRemoveTwo},
	{"git change", 8, gitChange},
	{"git break", 4, gitBreak},
	{"git mend", 5, gitMend},
	{"git rename file", 2, gitRenameFile},
	{"git rename cluster", 2, gitRenameCluster},
	{"git move machine", 4, gitMoveMachine},
	{"git replace control plane", 2, gitControlPlane},
	{"git empty", 2, gitEmpty},
	{"git force-push", 2, gitForcePush},
	{"git fleet", 2, gitFleet},
	{"git labelled patch", 3, gitLabelledPatch},
	{"git dangling link", 2, gitLink},
	{"ui label", 5, uiLabel},
	{"ui tamper", 3, uiTamper},
	{"ui destroy", 3, uiDestroy},
	{"ui strip", 1, uiStrip},
	{"ui foreign", 3, uiForeign},
	{"ui lock machine", 6, uiLockMachine},
	{"ui lock cluster", 3, uiLockCluster},
	{"ui unlock", 3, uiUnlock},
	{"ui confirm", 2, uiConfirm},
	{"ui false confirmation", 1, uiFalseConfirm},
	{"net latency", 3, netLatency},
	{"net reset", 4, netReset},
	{"net half-open", 2, netHalfOpen},
	{"net hole", 1, netHole},
	{"net refuse", 2, netRefuse},
	{"net heal", 14, netHeal},
	{"watch drop", 3, watchDrop},
	{"watch error", 2, watchError},
	{"watch silence", 2, watchSilence},
	{"write refused", 4, writeRefused},
	{"write lost answer", 4, writeLost},
	{"write slow", 3, writeSlow},
	{"omni restart", 2, omniRestart},
	{"omni upgrade", 1, omniUpgrade},
	{"omni backup", 3, omniBackup},
	{"omni restore", 2, omniRestore},
	{"kill", 5, kill},
}

// draw makes the n-th step. It takes the same amount from rng whatever it draws.
func draw(rng *rand.Rand, n int) step {
	total := 0
	for i := range kinds {
		total += kinds[i].weight
	}

	pick := rng.IntN(total)
	s := step{n: n, a: rng.Uint64N(1 << 16), b: rng.Uint64N(1 << 16), c: rng.Uint64N(1 << 16)}
	pause, long := time.Duration(5+rng.IntN(115))*time.Millisecond, rng.IntN(12) == 0

	s.pause = pause
	if long {
		s.pause *= 6
	}

	for i := range kinds {
		if pick -= kinds[i].weight; pick < 0 {
			s.name, s.do = kinds[i].name, kinds[i].do

			break
		}
	}

	return s
}

// change edits the tree and commits it.
func (w *world) change(ctx context.Context, edit func(*tree) string) string {
	detail := edit(w.repo.now)
	w.must(w.repo.commit(ctx))

	return detail
}

// choose returns a cluster of the tree.
func (t *tree) choose(n uint64) (string, *cluster) {
	names := t.names()
	name := names[n%uint64(len(names))]

	return name, t.clusters[name]
}

func gitAdd(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		for i := range uint64(len(allClusters)) {
			if name := clusterName(s.a + i); t.clusters[name] == nil {
				t.add(name, s.b, s.c)

				return name
			}
		}

		return "nothing: there are enough"
	})
}

func gitRemove(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		if len(t.clusters) < 2 {
			return "nothing: there is only one"
		}

		name, _ := t.choose(s.a)
		delete(t.clusters, name)

		return name
	})
}

// gitRemoveTwo takes out more than maxDelete allows.
func gitRemoveTwo(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		if len(t.clusters) < 3 {
			return "nothing: there are too few"
		}

		one, _ := t.choose(s.a)
		delete(t.clusters, one)
		two, _ := t.choose(s.b)
		delete(t.clusters, two)

		return one + " and " + two
	})
}

func gitChange(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		name, c := t.choose(s.a)

		switch s.b % 9 {
		case 0:
			c.patches = int(s.c % 4)
		case 1:
			c.extension = !c.extension
		case 2:
			c.locked = !c.locked
		case 3:
			if len(c.workers) > 0 {
				c.workers = c.workers[1:]
			}
		case 4:
			if len(c.workers) < 4 {
				c.workers = append(c.workers, t.take(1, s.c)...)
			}
		case 5:
			c.generation++
		case 6:
			c.machineNote = s.c % 10
		case 7:
			c.hostile = int(s.c % uint64(len(hostile)))
		default:
			c.note++
		}

		return fmt.Sprintf("%s (%d)", name, s.b%9)
	})
}

func gitBreak(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		name, c := t.choose(s.a)
		c.damage = 1 + damage(s.b%uint64(damages-1))

		return fmt.Sprintf("%s (%d)", name, c.damage)
	})
}

func gitMend(ctx context.Context, w *world, _ step) string {
	return w.change(ctx, func(t *tree) string { t.mend(); return "all" })
}

func (t *tree) mend() {
	t.empty, t.missing, t.link = false, false, false

	for name, c := range t.clusters {
		c.damage, c.control = sound, controlPlane(name, false)
	}
}

func gitRenameFile(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		name, c := t.choose(s.a)
		c.file, c.moved = fmt.Sprintf("%s/%s.yaml", name, fmt.Sprint(s.n)), true

		return name + " is in " + c.file
	})
}

func gitRenameCluster(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		name, c := t.choose(s.a)

		for i := range uint64(len(allClusters)) {
			if other := clusterName(s.b + i); t.clusters[other] == nil {
				delete(t.clusters, name)
				t.clusters[other] = c
				c.file, c.moved, c.control = fmt.Sprintf("%s/%d.yaml", other, s.n), true, controlPlane(other, false)

				return name + " is now " + other
			}
		}

		return "nothing: no name is free"
	})
}

func gitMoveMachine(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		from, one := t.choose(s.a)
		to, other := t.choose(s.b)

		if one == other || len(one.workers) == 0 || len(other.workers) > 2 {
			return "nothing"
		}

		id := one.workers[0]
		one.workers = one.workers[1:]
		other.workers = append(other.workers, id)

		return fmt.Sprintf("%s from %s to %s", id, from, to)
	})
}

// gitControlPlane replaces a control plane of a single machine, which makes way for
// another. Of three none may go: see trapQuorum. (A cluster that is born with the other
// three could never get its own.)
func gitControlPlane(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		name, c := t.choose(s.a)
		if len(c.control) > 1 {
			return name + ": nothing: it has too many machines"
		}

		c.control = controlPlane(name, true)

		return name
	})
}

func gitEmpty(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		t.empty, t.missing = s.a%2 == 0, s.a%2 == 1

		return fmt.Sprintf("missing: %v", t.missing)
	})
}

func gitForcePush(ctx context.Context, w *world, s step) string {
	hash, err := w.repo.forcePush(ctx, s.a)
	w.must(err)

	return hash
}

func gitFleet(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		t.class = s.a % 4

		return fmt.Sprint(t.class)
	})
}

// gitLabelledPatch describes, or drops, a ConfigPatch with the label of a cluster, which has to
// be treated as part of it: in a manifest, and so of no template.
func gitLabelledPatch(ctx context.Context, w *world, s step) string {
	return w.change(ctx, func(t *tree) string {
		name, _ := t.choose(s.a)
		id := "labelled-" + name

		if s.b%4 == 0 {
			delete(t.patches, id)

			return "none of " + name
		}

		t.patches[id] = patch{cluster: name, note: s.c % 10}

		return id
	})
}

// gitLink makes a link that leads nowhere: what it stood for has not left Git.
func gitLink(ctx context.Context, w *world, _ step) string {
	return w.change(ctx, func(t *tree) string {
		t.link = true

		return "dangling.yaml"
	})
}

// newRNG returns one of several independent sequences of a seed.
func newRNG(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
