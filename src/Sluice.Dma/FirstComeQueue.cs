namespace Sluice.Dma;

/// <summary>What has a place in a <see cref="FirstComeQueue{T}"/>; in one at a time.</summary>
internal interface IQueued<T>
    where T : class
{
    /// <summary>The links; only the queue writes them.</summary>
    ref QueuePlace<T> Place { get; }
}

/// <summary>The links of one that may wait.</summary>
internal struct QueuePlace<T>
    where T : class
{
    internal T? Previous;
    internal T? Next;
    private bool _taken;

    /// <summary>Whether it waits; outside the owner's gate a hint.</summary>
    internal bool Taken
    {
        readonly get => Volatile.Read(in _taken);
        set => Volatile.Write(ref _taken, value);
    }
}

/// <summary>
/// First come, first served, and any one may leave. The links lie in those who wait, so nothing is allocated. Only
/// inside its owner's gate; a look at <see cref="First"/> from outside is a hint.
/// </summary>
internal struct FirstComeQueue<T>
    where T : class, IQueued<T>
{
    private T? _first;
    private T? _last;

    /// <summary>Whose turn it is; null when nobody waits.</summary>
    internal T? First
    {
        readonly get => Volatile.Read(in _first);
        private set => Volatile.Write(ref _first, value);
    }

    /// <summary>Takes the last place. False when <paramref name="item"/> waits already.</summary>
    internal bool TryAdd(T item)
    {
        ref QueuePlace<T> place = ref item.Place;
        if (place.Taken) { return false; }
        (place.Previous, place.Next, place.Taken) = (_last, null, true);
        if (_last is null) { First = item; }
        else { _last.Place.Next = item; }
        _last = item;
        return true;
    }

    /// <summary>Gives the place up. True for exactly one caller per place: that one answers for it.</summary>
    internal bool Remove(T item)
    {
        ref QueuePlace<T> place = ref item.Place;
        if (!place.Taken) { return false; }
        if (place.Previous is null) { First = place.Next; }
        else { place.Previous.Place.Next = place.Next; }
        if (place.Next is null) { _last = place.Previous; }
        else { place.Next.Place.Previous = place.Previous; }
        place = default;
        return true;
    }
}
