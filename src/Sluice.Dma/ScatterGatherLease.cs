using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// A scatter/gather list on loan: valid from get to put, and checked at every use. Using or putting it after that
/// throws, even when its pooled record already serves another transfer.
/// </summary>
/// <remarks>Copies of the handle are the same lease. Reading is safe from any thread; exactly one put wins.</remarks>
public readonly struct ScatterGatherLease : IDisposable, IEquatable<ScatterGatherLease>
{
    private readonly Mapping? _mapping;
    private readonly long _number;

    internal ScatterGatherLease(Mapping mapping, long number) => (_mapping, _number) = (mapping, number);

    /// <summary>Elements in the list, at least 1.</summary>
    /// <exception cref="InvalidOperationException">The lease is over.</exception>
    public int Count => Checked().Count;

    /// <summary>One element.</summary>
    /// <exception cref="InvalidOperationException">The lease is over.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such element.</exception>
    public ScatterGatherElement this[int index] => Checked().ElementAt(index);

    /// <summary>The mapping's number in the history of its adapter.</summary>
    public long Number => _number;

    /// <summary>Whether this is a lease at all, and not over.</summary>
    public bool IsLive => _mapping is not null && _mapping.IsLive(_number);

    /// <summary>
    /// Whether its put found that no unit confirms any more: the device may still reach the buffer, which stays the
    /// device's until the <see cref="DmaLeak"/> is released. What came in is not to be trusted.
    /// </summary>
    public bool IsLeaked => _mapping is not null && _mapping.IsLeaked(_number);

    internal Mapping? Mapping => _mapping;

    /// <summary>Puts the list, as <see cref="DmaAdapter.PutScatterGatherList"/> does.</summary>
    /// <exception cref="InvalidOperationException">The lease is over.</exception>
    public void Dispose()
    {
        if (_mapping is null) { ThrowStale(null, 0); }
        _mapping!.Adapter.PutScatterGatherList(this, "Dispose", nameof(ScatterGatherLease));
    }

    /// <summary>Walks the elements; every step checks the lease.</summary>
    public Enumerator GetEnumerator() => new(this);

    /// <inheritdoc/>
    public bool Equals(ScatterGatherLease other) => _mapping == other._mapping && _number == other._number;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is ScatterGatherLease other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => _number.GetHashCode();

    /// <summary>Whether both are the same lease.</summary>
    public static bool operator ==(ScatterGatherLease left, ScatterGatherLease right) => left.Equals(right);

    /// <summary>Whether they are different leases.</summary>
    public static bool operator !=(ScatterGatherLease left, ScatterGatherLease right) => !left.Equals(right);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Mapping Checked()
    {
        if (!IsLive) { ThrowOver(); }
        return _mapping!;
    }

    private void ThrowOver()
    {
        _mapping?.Adapter.Verifier?.OnUsedAfterFree(_mapping, _number, "scatter/gather list");
        ThrowStale(_mapping, _number);
    }

    internal static void ThrowStale(Mapping? mapping, long number) => throw new InvalidOperationException(mapping switch
    {
        null => "this scatter/gather list was never got from an adapter",
        { Phase: MappingPhase.Leaked } when mapping.Number == number =>
            $"scatter/gather list #{number} was leaked: its adapter was disposed before it was put",
        _ => $"scatter/gather list #{number} was already put",
    });

    /// <summary>Walks a list.</summary>
    public struct Enumerator
    {
        private readonly ScatterGatherLease _lease;
        private int _index;

        internal Enumerator(ScatterGatherLease lease) => (_lease, _index) = (lease, -1);

        /// <summary>The element.</summary>
        public readonly ScatterGatherElement Current => _lease[_index];

        /// <summary>To the next element.</summary>
        public bool MoveNext() => ++_index < _lease.Count;
    }
}
