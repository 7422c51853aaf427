package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// look makes what is kept of a cluster what it should be, if it is time for that.
func (k *Keeper) look(ctx context.Context, cluster string) {
	now := k.knownAs(cluster)
	key, err := k.Engine.Managed("", cluster)

	var (
		unmanaged *sync.UnmanagedError
		notYet    *sync.NotYetError
	)

	switch {
	case errors.As(err, &unmanaged):
		err = k.remove(ctx, cluster, now)
	case err != nil:
		// What is kept stays. A cluster that is known to be away comes back as another one.
		if errors.As(err, &notYet) && !notYet.Unread {
			now.next, now.renew, now.configs, now.recalled = time.Time{}, time.Time{}, Configs{}, true
		}

		k.queue.AddAfter(cluster, lookAgain)

		return
	default:
		if wait := time.Until(now.next); wait > 0 {
			k.queue.AddAfter(cluster, wait)

			return
		}

		err = k.fill(ctx, key, now)
	}

	var foreign *ForeignError

	switch {
	case err == nil:
		k.failures.Forget(cluster)
		now.trouble = ""
	case errors.As(err, &foreign):
		k.failures.Forget(cluster) // it takes a person, and no hurry
		k.tell(cluster, now, err)
	case ctx.Err() == nil:
		wait := k.failures.When(cluster)
		now.next = time.Now().Add(wait)
		k.queue.AddAfter(cluster, wait)
		k.tell(cluster, now, err)
	}
}

// tell logs an error once.
func (k *Keeper) tell(cluster string, now *kept, err error) {
	if now.trouble == err.Error() {
		return
	}

	now.trouble = err.Error()
	log := k.Logger.Warn

	if _, foreign := errors.AsType[*ForeignError](err); foreign {
		log = k.Logger.Error // it takes a person
	}

	log("the configs of a cluster are not kept as they should be", zap.String("cluster", cluster), zap.Error(err))
}

// fill fetches the configs of a cluster into the store, as far as it does not have them. A
// [ForeignError] says that all else was done.
func (k *Keeper) fill(ctx context.Context, key sync.Key, now *kept) error {
	if err := k.recallOne(ctx, key.Target, now); err != nil {
		return err
	}

	foreign, err := k.fetch(ctx, key, now)
	if err != nil {
		return err
	}

	now.configs.Origin = Origin{Source: key.Source, Request: k.request(), Renew: now.renew, Expires: now.expires}

	storing, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()

	err = k.Store.Put(storing, key.Target, now.configs)
	if _, isForeign := errors.AsType[*ForeignError](err); err != nil && !isForeign {
		return err
	}

	if filled := now.configs.Kubeconfig != nil || now.configs.Talosconfig != nil; filled && !now.filled {
		now.filled = true

		k.Logger.Info("keeping the configs of a cluster", zap.String("source", key.Source), zap.String("cluster", key.Target))
	}

	wait := min(lookAgain, time.Until(now.renew))
	now.next = time.Now().Add(wait)
	k.queue.AddAfter(key.Target, wait)

	return cmp.Or(foreign, err)
}

// recallOne takes what the store keeps of a cluster for what was fetched, once, if that is all
// there has to be and was asked for as it would be now.
func (k *Keeper) recallOne(ctx context.Context, cluster string, now *kept) error {
	store, able := k.Store.(Recaller)
	if !able || now.recalled {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()

	configs, err := store.Recall(ctx, cluster)
	if err != nil {
		return err
	}

	now.recalled = true
	origin := configs.Origin

	if origin.Request != k.request() || k.Kubeconfig != (configs.Kubeconfig != nil) || k.Talosconfig != (configs.Talosconfig != nil) {
		return nil
	}

	// A clock that was set back must not make it last.
	now.configs, now.expires = configs, origin.Expires
	if now.renew = origin.Renew; time.Until(now.renew) > k.Refresh {
		now.renew = time.Now().Add(k.Refresh)
	}

	return nil
}

// request tells apart what is asked for.
func (k *Keeper) request() string {
	account := "login"
	if a := k.ServiceAccount; a != nil {
		account = fmt.Sprintf("%q %q %s", a.User, a.Groups, a.TTL)
	}

	return digest(fmt.Appendf(nil, "%t %t %s", k.Kubeconfig, k.Talosconfig, account))
}

// fetch gets the configs that are missing or old, if there is room for them; foreign is
// what is in the way.
func (k *Keeper) fetch(ctx context.Context, key sync.Key, now *kept) (foreign, failed error) {
	next, old := now.configs, !time.Now().Before(now.renew)
	if old {
		next = Configs{}
	}

	kubeconfig, talosconfig := k.Kubeconfig && next.Kubeconfig == nil, k.Talosconfig && next.Talosconfig == nil
	if !kubeconfig && !talosconfig {
		return nil, nil
	}

	checking, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()

	room, err := k.Store.Check(checking, key.Target)
	if _, isForeign := errors.AsType[*ForeignError](err); err != nil && !isForeign {
		return nil, err
	}

	if kubeconfig && !room.Kubeconfig || talosconfig && !room.Talosconfig {
		foreign = err
	}

	if talosconfig && room.Talosconfig {
		if next.Talosconfig, err = k.Issuer.Talosconfig(ctx, key.Source, key.Target); err != nil {
			return nil, err
		}
	}

	asked := time.Now()

	// The last one, because a token may be made for it.
	if kubeconfig && room.Kubeconfig {
		if next.Kubeconfig, err = k.Issuer.Kubeconfig(ctx, Request{Source: key.Source, Cluster: key.Target, ServiceAccount: k.ServiceAccount}); err != nil {
			return nil, err
		}

		now.expires = time.Time{}
		if k.ServiceAccount != nil {
			now.expires = asked.Add(k.ServiceAccount.TTL)
		}
	}

	now.configs = next

	if old {
		now.renew = time.Now().Add(k.Refresh - rand.N(k.Refresh/10+1)) // not all of them at the same moment
	}

	return foreign, nil
}

// remove keeps nothing for a cluster any more. What turns out to be somebody else's is told
// and left.
func (k *Keeper) remove(ctx context.Context, cluster string, now *kept) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()

	err := k.Store.Remove(ctx, cluster)

	if _, foreign := errors.AsType[*ForeignError](err); err != nil && !foreign {
		return err
	}

	if err != nil {
		k.tell(cluster, now, err)
	} else if now.filled {
		k.Logger.Info("removed the configs of a cluster that is not managed any more", zap.String("cluster", cluster))
	}

	k.mu.Lock()
	delete(k.known, cluster)
	k.mu.Unlock()

	return nil
}
