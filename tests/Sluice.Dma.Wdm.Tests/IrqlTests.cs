using System.Runtime.CompilerServices;

namespace Sluice.Dma.Wdm.Tests;

/// <summary>Levels: the scheduler, and T20.</summary>
public sealed class IrqlTests
{
    // The documented levels, from the published pages and not from DdiTable: P PASSIVE only, D DISPATCH only, L up to
    // DISPATCH, A any.
    private const string Published = """
        IoGetDmaAdapter P                  PutDmaAdapter L                    AllocateCommonBuffer P
        FreeCommonBuffer P                 AllocateAdapterChannel D           FlushAdapterBuffers L
        FreeAdapterChannel D               FreeMapRegisters D                 MapTransfer L
        GetDmaAlignment P                  ReadDmaCounter L                   GetScatterGatherList D
        PutScatterGatherList D             CalculateScatterGatherListSize A   BuildScatterGatherList D
        BuildMdlFromScatterGatherList L    GetDmaAdapterInfo L                GetDmaTransferInfo L
        InitializeDmaTransferContext L     AllocateCommonBufferEx P           AllocateAdapterChannelEx D
        ConfigureAdapterChannel L          CancelAdapterChannel L             MapTransferEx L
        GetScatterGatherListEx L           BuildScatterGatherListEx L         FlushAdapterBuffersEx L
        FreeAdapterObject L                CancelMappedTransfer L             AllocateDomainCommonBuffer P
        FlushDmaBuffer L                   JoinDmaDomain P                    LeaveDmaDomain P
        GetDmaDomain P                     AllocateCommonBufferWithBounds P   AllocateCommonBufferVector P
        GetCommonBufferFromVectorByIndex L FreeCommonBufferFromVector P       FreeCommonBufferVector P
        CreateCommonBufferFromMdl P
        """;

    public static TheoryData<string, DdiFunction, char> Functions
    {
        get
        {
            string[] words = Published.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            TheoryData<string, DdiFunction, char> rows = [];
            foreach (string backend in Backend.Names)
            {
                for (int i = 0; i < words.Length; i += 2)
                {
                    rows.Add(backend, Enum.Parse<DdiFunction>(words[i]), words[i + 1][0]);
                }
            }
            return rows;
        }
    }

    // Seen failing: FreeMapRegisters without its check.
    [Theory]
    [MemberData(nameof(Functions))]
    public void T20_EveryFunctionAtEveryLevel(string backend, DdiFunction function, char rule)
    {
        foreach (Irql level in new[] { Irql.Passive, Irql.Apc, Irql.Dispatch, Irql.Device, Irql.High })
        {
            bool allowed = rule switch
            {
                'P' => level == Irql.Passive,
                'D' => level == Irql.Dispatch,
                'L' => level <= Irql.Dispatch,
                _ => true,
            };
            using Lab lab = new(backend);
            Action call = Call(lab, function);
            Exception? thrown;
            using (IrqlScheduler.RaiseTo(level)) { thrown = Record.Exception(call); }
            if (allowed) { Assert.Null(thrown); }
            else
            {
                IrqlException wrong = Assert.IsType<IrqlException>(thrown);
                Assert.Equal((function, level), (wrong.Function, wrong.Level));
                Assert.Contains(function.ToString(), wrong.Message, StringComparison.Ordinal);
                Assert.DoesNotContain('\n', wrong.Message);
            }
            // What a refused call left standing.
            lab.RunLater();
        }
    }

    [Fact]
    public void T20_TheTableHasEveryFunctionInItsPlace()
    {
        DdiFunction[] all = Enum.GetValues<DdiFunction>();
        Assert.Equal(all, DdiTable.Rows.Select(static r => r.Function));
        Assert.Equal(Enumerable.Range(0, 36), DdiTable.Rows.Select(static r => r.Number).Distinct().Order());
        Assert.Equal(all.Length * Backend.Names.Length, Functions.Count);
    }

    [Fact]
    public void LevelsNestAndDpcsRunWhenTheyFall()
    {
        List<string> seen = [];
        IrqlScheduler.QueueDpc(_ => seen.Add($"at once, {IrqlScheduler.Level}"));
        using (IrqlScheduler.RaiseTo(Irql.Dispatch))
        {
            IrqlScheduler.QueueDpc(static x => ((List<string>)x!).Add($"first, {IrqlScheduler.Level}"), seen);
            using (IrqlScheduler.RaiseTo(Irql.Device))
            {
                IrqlScheduler.QueueDpc(_ =>
                {
                    seen.Add("second");
                    IrqlScheduler.QueueDpc(_ => seen.Add("third"));
                });
                Assert.Throws<IrqlException>(() => { using (IrqlScheduler.RaiseTo(Irql.Passive)) { } });
            }
            Assert.Single(seen);
        }
        Assert.Equal(["at once, Dispatch", "first, Dispatch", "second", "third"], seen);
        Assert.Equal(Irql.Passive, IrqlScheduler.Level);
        using (IrqlScheduler.RaiseTo(Irql.Apc))
        {
            IrqlScheduler.QueueDpc(_ => seen.Add("from APC"));
            Assert.Equal("from APC", seen[^1]);
            Assert.Equal(Irql.Apc, IrqlScheduler.Level);
        }
    }

    [Fact]
    public void AThreadHasItsOwnLevel()
    {
        using (IrqlScheduler.RaiseTo(Irql.Dispatch))
        {
            Irql other = Irql.High;
            Thread thread = new(() => other = IrqlScheduler.Level);
            thread.Start();
            thread.Join();
            Assert.Equal(Irql.Passive, other);
        }
    }

    // A call that succeeds where its level allows it, with what it needs made at the right levels.
    private static Action Call(Lab lab, DdiFunction function)
    {
        if (function == DdiFunction.IoGetDmaAdapter)
        {
            return () => Assert.NotNull(lab.Dma.IoGetDmaAdapter(lab.Device, Lab.Master(4096), out _));
        }
        WdmAdapter a = lab.Get(4096);
        Mdl mdl = lab.Buffer(4096);
        VirtualAddress va = VirtualAddress.Of(mdl);
        DmaTransferContext context = new();
        a.InitializeDmaTransferContext(context);
        ScatterGatherBuffer buffer = new(a, ScatterGatherBuffer.BytesFor(1));
        DriverControl free = static (_, _, _, _) => IoAllocationAction.DeallocateObject;
        DriverListControl put = (_, _, list, _) => a.PutScatterGatherList(list, true);
        const NtStatus Ok = NtStatus.Success;
        uint length = 4096;
        MapRegisterBase Registers() => ChannelTests.Granted(lab, a, 1);
        CommonBufferVector Vector()
        {
            a.AllocateCommonBufferVector(
                null, null, MemoryCachingType.Cached, 0, 0, 1, 4096, out CommonBufferVector? v);
            return v!;
        }

        switch (function)
        {
            case DdiFunction.PutDmaAdapter: return a.PutDmaAdapter;
            case DdiFunction.AllocateCommonBuffer:
                return () => a.AllocateCommonBuffer(100, out _, true)!.Dispose();
            case DdiFunction.AllocateCommonBufferEx:
                return () => a.AllocateCommonBufferEx(null, 100, out _, true, 0)!.Dispose();
            case DdiFunction.AllocateCommonBufferWithBounds:
                return () => a.AllocateCommonBufferWithBounds(null, null, 100, 0, null, 0, out _)!.Dispose();
            case DdiFunction.AllocateDomainCommonBuffer:
                return () =>
                {
                    Assert.Equal(Ok, a.AllocateDomainCommonBuffer(a.Adapter.Domain, null, 100, 0,
                        MemoryCachingType.Cached, 0, out _, out CommonBuffer? b));
                    b!.Dispose();
                };
            case DdiFunction.FreeCommonBuffer:
                CommonBuffer common = a.AllocateCommonBuffer(100, out LogicalAddress at, true)!;
                lab.Later(common.Dispose);
                return () => a.FreeCommonBuffer(100, at, common, true);
            case DdiFunction.CreateCommonBufferFromMdl:
                return () =>
                {
                    Assert.Equal(Ok, a.CreateCommonBufferFromMdl(mdl, [], out _, out CommonBuffer? b));
                    b!.Dispose();
                };
            case DdiFunction.AllocateCommonBufferVector: return () => Vector().Dispose();
            case DdiFunction.GetCommonBufferFromVectorByIndex:
                CommonBufferVector one = Vector();
                lab.Later(one.Dispose);
                return () => a.GetCommonBufferFromVectorByIndex(one, 0, out _, out _);
            case DdiFunction.FreeCommonBufferFromVector:
                CommonBufferVector two = Vector();
                lab.Later(two.Dispose);
                return () => a.FreeCommonBufferFromVector(two, 0);
            case DdiFunction.FreeCommonBufferVector:
                CommonBufferVector three = Vector();
                three.FreeAll();
                return () => a.FreeCommonBufferVector(three);
            case DdiFunction.AllocateAdapterChannel:
                return () => Assert.Equal(Ok, a.AllocateAdapterChannel(lab.Device, 1, free, null));
            case DdiFunction.AllocateAdapterChannelEx:
                return () => Assert.Equal(Ok,
                    a.AllocateAdapterChannelEx(lab.Device, context, 1, DmaFlags.None, free, null, null));
            case DdiFunction.FreeAdapterChannel or DdiFunction.FreeAdapterObject:
                lab.AtDispatch(() => a.AllocateAdapterChannel(
                    lab.Device, 1, static (_, _, _, _) => IoAllocationAction.KeepObject, null));
                return function == DdiFunction.FreeAdapterChannel ? a.FreeAdapterChannel
                    : () => a.FreeAdapterObject(lab.Device, IoAllocationAction.DeallocateObject);
            case DdiFunction.FreeMapRegisters:
                MapRegisterBase unused = Registers();
                return () => a.FreeMapRegisters(unused, 1);
            case DdiFunction.MapTransfer:
                MapRegisterBase empty = Registers();
                lab.Later(() => a.FlushAdapterBuffers(mdl, empty, va, 4096, true));
                return () => a.MapTransfer(mdl, empty, va, ref length, true);
            case DdiFunction.MapTransferEx:
                MapRegisterBase emptyToo = Registers();
                lab.Later(() => a.FlushAdapterBuffersEx(mdl, emptyToo, 0, 4096, true));
                return () => Assert.Equal(Ok,
                    a.MapTransferEx(mdl, emptyToo, 0, 0, ref length, true, buffer, null, null));
            case DdiFunction.FlushAdapterBuffers:
                MapRegisterBase full = Registers();
                a.MapTransfer(mdl, full, va, ref length, true);
                lab.Later(() => a.FlushAdapterBuffers(mdl, full, va, 4096, true));
                return () => Assert.True(a.FlushAdapterBuffers(mdl, full, va, 4096, true));
            case DdiFunction.FlushAdapterBuffersEx:
                MapRegisterBase fullToo = Registers();
                a.MapTransferEx(mdl, fullToo, 0, 0, ref length, true, buffer, null, null);
                lab.Later(() => a.FlushAdapterBuffersEx(mdl, fullToo, 0, 4096, true));
                return () => Assert.Equal(Ok, a.FlushAdapterBuffersEx(mdl, fullToo, 0, 4096, true));
            case DdiFunction.GetDmaAlignment: return () => a.GetDmaAlignment();
            case DdiFunction.ReadDmaCounter: return () => a.ReadDmaCounter();
            case DdiFunction.GetScatterGatherList:
                return () => Assert.Equal(Ok, a.GetScatterGatherList(lab.Device, mdl, va, 4096, put, null, true));
            case DdiFunction.GetScatterGatherListEx:
                return () => Assert.Equal(Ok, a.GetScatterGatherListEx(
                    lab.Device, context, mdl, 0, 4096, DmaFlags.None, put, null, true, null, null, null));
            case DdiFunction.BuildScatterGatherList:
                return () => Assert.Equal(Ok,
                    a.BuildScatterGatherList(lab.Device, mdl, va, 4096, put, null, true, buffer));
            case DdiFunction.BuildScatterGatherListEx:
                return () => Assert.Equal(Ok, a.BuildScatterGatherListEx(
                    lab.Device, context, mdl, 0, 4096, DmaFlags.None, put, null, true, buffer, null, null, null));
            case DdiFunction.PutScatterGatherList:
                ScatterGatherList list = lab.List(a, mdl, 0, 4096, true);
                lab.Later(() => lab.Put(a, list, true));
                return () => a.PutScatterGatherList(list, true);
            case DdiFunction.CalculateScatterGatherListSize:
                return () => Assert.Equal(Ok, a.CalculateScatterGatherListSize(mdl, va, 4096, out _, out _));
            case DdiFunction.BuildMdlFromScatterGatherList:
                ScatterGatherList mapped = lab.List(a, mdl, 0, 4096, true);
                lab.Later(() => lab.Put(a, mapped, true));
                return () => Assert.Equal(Ok, a.BuildMdlFromScatterGatherList(mapped, mdl, out _));
            case DdiFunction.GetDmaAdapterInfo: return () => Assert.Equal(Ok, a.GetDmaAdapterInfo(1, out _));
            case DdiFunction.GetDmaTransferInfo:
                return () => Assert.Equal(Ok, a.GetDmaTransferInfo(mdl, 0, 4096, true, 2, out _));
            case DdiFunction.InitializeDmaTransferContext:
                return () => Assert.Equal(Ok, a.InitializeDmaTransferContext(new()));
            case DdiFunction.ConfigureAdapterChannel: return () => a.ConfigureAdapterChannel(1, null);
            case DdiFunction.CancelAdapterChannel:
                return () => Assert.True(a.CancelAdapterChannel(lab.Device, context));
            case DdiFunction.CancelMappedTransfer: return () => a.CancelMappedTransfer(lab.Device, context);
            case DdiFunction.FlushDmaBuffer: return () => Assert.Equal(Ok, a.FlushDmaBuffer(mdl, 0, 4096, true));
            case DdiFunction.JoinDmaDomain: return () => Assert.Equal(Ok, a.JoinDmaDomain(a.Adapter.Domain));
            case DdiFunction.LeaveDmaDomain: return () => a.LeaveDmaDomain();
            case DdiFunction.GetDmaDomain: return () => a.GetDmaDomain();
            default: throw new InvalidOperationException($"no call for {function}");
        }
    }
}
