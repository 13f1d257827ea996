using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>
/// Blocks that can be read and written. Requests of any length; those longer than the controller's limit become several
/// commands, and any number may be in flight.
/// </summary>
/// <remarks>
/// <para>Safe from any thread. Nothing allocates once queues and pools have grown to their work.</para>
/// <para>Cancelling ends the wait, not the transfer: until the controller completes it, the buffer stays mapped, and
/// disposing its MDL meanwhile only marks it; its memory is given back when the device is done with it.</para>
/// <para>Await each result exactly once. Continuations run on the thread pool and may wait for further requests.</para>
/// </remarks>
public sealed class NvmeNamespace
{
    private readonly NvmeController _controller;

    internal NvmeNamespace(NvmeController controller, uint id, ulong blocks, int blockSizeLog2, bool isReadOnly)
    {
        (_controller, Id, Blocks, BlockSizeLog2, IsReadOnly) = (controller, id, blocks, blockSizeLog2, isReadOnly);
    }

    /// <summary>Its id, from 1.</summary>
    public uint Id { get; }

    /// <summary>Its size in blocks.</summary>
    public ulong Blocks { get; }

    /// <summary>The size of a block as a power of two, 9 to 12.</summary>
    public int BlockSizeLog2 { get; }

    /// <summary>Its size in bytes.</summary>
    public long Length => (long)(Blocks << BlockSizeLog2);

    /// <summary>Whether the controller says that it takes no writes.</summary>
    public bool IsReadOnly { get; }

    /// <summary>The controller it belongs to.</summary>
    public NvmeController Controller => _controller;

    /// <summary>Reads blocks into a buffer.</summary>
    /// <param name="block">The first block.</param>
    /// <param name="buffer">Where to; not to be touched until the wait is over.</param>
    /// <param name="offset">The first byte in the buffer; with the MDL's own offset a multiple of 4.</param>
    /// <param name="length">Bytes, a multiple of the block size, at least one block.</param>
    /// <param name="cancellationToken">Ends the wait alone.</param>
    /// <exception cref="ArgumentOutOfRangeException">The range is not whole blocks of this namespace.</exception>
    /// <exception cref="ArgumentException">The buffer is a chain with a gap (a part that ends or starts inside a page)
    /// in the middle of a block, or at no multiple of 4.</exception>
    /// <exception cref="NvmeException">The controller says so, or is gone (thrown at the await).</exception>
    /// <exception cref="DmaException">The buffer cannot be mapped (thrown at the await).</exception>
    public ValueTask ReadAsync(
        ulong block, Mdl buffer, uint offset, uint length, CancellationToken cancellationToken = default) =>
        Start(NvmeCommand.Read, block, buffer, offset, length, cancellationToken);

    /// <summary>Writes blocks from a buffer. Parameters and errors as <see cref="ReadAsync"/>.</summary>
    public ValueTask WriteAsync(
        ulong block, Mdl buffer, uint offset, uint length, CancellationToken cancellationToken = default) =>
        Start(NvmeCommand.Write, block, buffer, offset, length, cancellationToken);

    /// <summary>Completes once everything written before is stable.</summary>
    /// <exception cref="NvmeException">The controller says that it cannot (thrown at the await).</exception>
    public ValueTask FlushAsync(CancellationToken cancellationToken = default) =>
        Start(NvmeCommand.Flush, 0, null, 0, 0, cancellationToken);

    /// <summary>
    /// Tells the controller that blocks are no longer needed; what they read as afterwards is its choice.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The blocks are not of this namespace, or none.</exception>
    public ValueTask DeallocateAsync(ulong block, ulong blocks, CancellationToken cancellationToken = default)
    {
        if (blocks == 0 || block >= Blocks || blocks > Blocks - block)
        {
            throw new ArgumentOutOfRangeException(
                nameof(blocks), $"{blocks} blocks from {block} are not in a namespace of {Blocks}");
        }
        return Start(NvmeCommand.DatasetManagement, block, null, 0, blocks, cancellationToken);
    }

    /// <summary>As <see cref="ReadAsync"/>, polling until it is done.</summary>
    public void Read(ulong block, Mdl buffer, uint offset, uint length) =>
        _controller.Wait(ReadAsync(block, buffer, offset, length));

    /// <summary>As <see cref="WriteAsync"/>, polling until it is done.</summary>
    public void Write(ulong block, Mdl buffer, uint offset, uint length) =>
        _controller.Wait(WriteAsync(block, buffer, offset, length));

    /// <summary>As <see cref="FlushAsync"/>, polling until it is done.</summary>
    public void Flush() => _controller.Wait(FlushAsync());

    /// <summary>The namespace as a stream of bytes.</summary>
    /// <param name="options">Null for the usual.</param>
    public NvmeStream OpenStream(NvmeStreamOptions? options = null) => new(this, options ?? new());

    private ValueTask Start(
        byte opcode, ulong block, Mdl? buffer, uint offset, ulong length, CancellationToken cancellation)
    {
        if (opcode is NvmeCommand.Read or NvmeCommand.Write) { Check(block, buffer, offset, (uint)length); }
        if (cancellation.IsCancellationRequested) { return ValueTask.FromCanceled(cancellation); }
        NvmeQueuePair queue = _controller.Queue;
        NvmeRequest request = queue.Rent();
        ValueTask task = request.Begin(opcode, this, block, buffer, offset, length, cancellation);
        queue.Start(request);
        return task;
    }

    private void Check(ulong block, Mdl? buffer, uint offset, uint length)
    {
        ArgumentNullException.ThrowIfNull(buffer);
        ulong blocks = length >> BlockSizeLog2;
        if (blocks == 0 || blocks << BlockSizeLog2 != length || block >= Blocks || blocks > Blocks - block)
        {
            throw new ArgumentOutOfRangeException(
                nameof(length),
                $"{length} bytes from block {block} are not whole blocks of a namespace of {Blocks} blocks");
        }
        if (((uint)buffer.ByteOffset + offset) % sizeof(uint) != 0)
        {
            throw new ArgumentOutOfRangeException(nameof(offset), "an NVMe buffer starts at a multiple of 4");
        }
        if (offset > buffer.ChainByteCount || length > buffer.ChainByteCount - offset)
        {
            throw new ArgumentOutOfRangeException(
                nameof(length), $"{length} bytes from {offset} pass the end of the buffer");
        }
        if (buffer.Next is not null) { CheckRuns(buffer, offset, length); }
    }

    /// <summary>A command is whole blocks and one run of pages: every run of a chain is whole blocks.</summary>
    private void CheckRuns(Mdl buffer, uint offset, uint length)
    {
        ulong start = buffer.ByteCount;
        for (Mdl? part = buffer.Next; part is not null && start < (ulong)offset + length; part = part.Next)
        {
            if (start > offset && part.ByteOffset % sizeof(uint) != 0)
            {
                throw new ArgumentException("every part of an NVMe buffer starts at a multiple of 4", nameof(buffer));
            }
            start += part.ByteCount;
        }
        PrpRuns runs = new(buffer);
        for (uint done = 0; done < length;)
        {
            uint run = runs.Limit((ulong)offset + done, length - done);
            done += run;
            if (done == length || (run & ((1u << BlockSizeLog2) - 1)) == 0) { continue; }
            throw new ArgumentException(
                $"a gap in the buffer after {offset + done} bytes divides a block of {1 << BlockSizeLog2} bytes: "
                + "NVMe takes gaps only between blocks",
                nameof(buffer));
        }
    }
}
