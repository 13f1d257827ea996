namespace Sluice.Dma;

/// <summary>
/// A rule of the DDI that verification watches over. Rules that Windows' DMA verification knows have its number (the
/// first parameter of bug check 0xE6); rules that only Linux's dma-debug knows have 0x40 plus the number of the check;
/// rules of our own start at 0x60. <see cref="VerificationRules"/> says what each means.
/// </summary>
public enum VerificationRule : byte
{
    /// <summary>Map registers are flushed past their end (1), or are not to be had in one run (2).</summary>
    MapRegisterFile = 0x00,

    /// <summary>The machine's clock went back.</summary>
    ClockWentBack = 0x01,

    /// <summary>The machine's clock leapt ahead.</summary>
    ClockLeapt = 0x02,

    /// <summary>A common buffer was freed twice.</summary>
    CommonBufferFreedTwice = 0x03,

    /// <summary>A channel was freed twice.</summary>
    ChannelFreedTwice = 0x04,

    /// <summary>Map registers were freed twice.</summary>
    MapRegistersFreedTwice = 0x05,

    /// <summary>A scatter/gather list was put twice.</summary>
    ListPutTwice = 0x06,

    /// <summary>The adapter was released before its common buffers.</summary>
    CommonBuffersOutstanding = 0x07,

    /// <summary>The adapter was released before its channels.</summary>
    ChannelsOutstanding = 0x08,

    /// <summary>The adapter was released before its map registers.</summary>
    MapRegistersOutstanding = 0x09,

    /// <summary>The adapter was released before its scatter/gather lists.</summary>
    ListsOutstanding = 0x0A,

    /// <summary>A second channel was asked for while the first was held.</summary>
    SecondChannel = 0x0B,

    /// <summary>More map registers were held at the same time than the adapter was granted.</summary>
    TooManyMapRegistersAtOnce = 0x0C,

    /// <summary>A transfer ended, or the next began, before the buffers were flushed.</summary>
    NotFlushed = 0x0D,

    /// <summary>A page of the buffer is not locked memory.</summary>
    NotLocked = 0x0E,

    /// <summary>
    /// Something was written outside the buffer: before (1) or after it (2) in other pages, in a free page (3), before
    /// (4) or after it (5) in its own pages.
    /// </summary>
    WroteOutside = 0x0F,

    /// <summary>Map registers were freed while something was mapped through them.</summary>
    MapRegistersFreedWhileMapped = 0x10,

    /// <summary>The adapter is referenced more often than it was handed out.</summary>
    TooManyReferences = 0x11,

    /// <summary>Called at another level than the one the function demands.</summary>
    WrongLevel = 0x13,

    /// <summary>Called at a level above the highest the function allows.</summary>
    LevelTooHigh = 0x14,

    /// <summary>More map registers were asked for in one call than the adapter was granted.</summary>
    TooManyMapRegisters = 0x15,

    /// <summary>A buffer was flushed that is not mapped.</summary>
    FlushOfUnmappedBuffer = 0x16,

    /// <summary>The adapter was used after its release.</summary>
    AdapterReleased = 0x18,

    /// <summary>There is no adapter.</summary>
    NoAdapter = 0x19,

    /// <summary>The address is not in the buffer's MDL.</summary>
    OutsideMdl = 0x1B,

    /// <summary>The bytes are mapped already, by this adapter (1) or another (2), and one of them is written.</summary>
    AlreadyMapped = 0x1D,

    /// <summary>A forbidden way to an adapter.</summary>
    ObsoleteAdapterFunction = 0x1E,

    /// <summary>
    /// The buffer starts before its MDL (1), behind it (2), has excess bytes in a further page (3), or does not start
    /// (4) or end (5) on a cache line.
    /// </summary>
    InvalidBuffer = 0x1F,

    /// <summary>A map register was flushed that was never mapped.</summary>
    FlushOfUnusedRegister = 0x20,

    /// <summary>A transfer of no bytes.</summary>
    ZeroLength = 0x21,

    /// <summary>The processor cannot reach the buffer.</summary>
    NotMappedForProcessor = 0x22,

    /// <summary>A channel was flushed whose transfer is neither done nor cancelled.</summary>
    FlushOfRunningChannel = 0x23,

    /// <summary>The buffer is shorter than the transfer.</summary>
    BufferTooShort = 0x24,

    /// <summary>The device description has an unknown version.</summary>
    UnknownDescription = 0x25,

    /// <summary>The device tried a DMA that the remapping unit refused.</summary>
    IommuViolation = 0x26,

    /// <summary>What was given back was never got.</summary>
    NeverGot = 0x41,

    /// <summary>What was given back, or used, is not this adapter's.</summary>
    NotOfThisAdapter = 0x42,

    /// <summary>What was given back has another length.</summary>
    LengthDiffers = 0x43,

    /// <summary>What was given back was got by another function.</summary>
    WrongFunction = 0x44,

    /// <summary>The common buffer was freed by another address.</summary>
    AddressDiffers = 0x45,

    /// <summary>The list has another number of elements than it was handed out with.</summary>
    ElementCountDiffers = 0x46,

    /// <summary>What was given back was got for the other direction.</summary>
    DirectionDiffers = 0x47,

    /// <summary>The driver never looked whether it got a list.</summary>
    ResultIgnored = 0x48,

    /// <summary>A page of the buffer is a stack's.</summary>
    StackMemory = 0x49,

    /// <summary>A page of the buffer is the kernel's or the remapping unit's.</summary>
    KernelMemory = 0x4A,

    /// <summary>A page of the buffer is no memory.</summary>
    NoMemory = 0x4B,

    /// <summary>A page of the buffer is a virtual address.</summary>
    VirtualAddress = 0x4C,

    /// <summary>An element is longer than the device takes.</summary>
    SegmentTooLong = 0x4D,

    /// <summary>An element crosses a boundary that the device cannot cross.</summary>
    BoundaryCrossed = 0x4E,

    /// <summary>The same bytes are mapped more than seven times, and some are written.</summary>
    TooManyOverlaps = 0x50,

    /// <summary>A buffer was handed over, or back, that is not mapped.</summary>
    SyncOfUnmapped = 0x51,

    /// <summary>More was handed over, or back, than is mapped.</summary>
    SyncOutside = 0x52,

    /// <summary>A buffer was handed over, or back, for another direction than it is mapped for.</summary>
    SyncDirectionDiffers = 0x53,

    /// <summary>The processor asked for data that the device only reads.</summary>
    SyncForProcessorOfToDevice = 0x54,

    /// <summary>The device was given data that it only writes.</summary>
    SyncForDeviceOfFromDevice = 0x55,

    /// <summary>A list was handed over, or back, with another number of elements.</summary>
    SyncCountDiffers = 0x56,

    /// <summary>The processor changed a buffer that the device owned.</summary>
    WrittenWhileMapped = 0x60,

    /// <summary>
    /// The MDL is not what it was when it was mapped: its length (1), its chain (2), its pages (3), its flags (4).
    /// </summary>
    MdlChanged = 0x61,

    /// <summary>A page of the buffer was freed while the device could reach it.</summary>
    FreedWhileMapped = 0x62,

    /// <summary>The adapter was released before its transfer contexts.</summary>
    ContextsOutstanding = 0x63,

    /// <summary>
    /// A transfer context was set up or used while another transfer uses it, used without being set up, or ended twice.
    /// </summary>
    ContextMisused = 0x64,

    /// <summary>The processor reached for a buffer that the device owns.</summary>
    TouchedWhileMapped = 0x65,

    /// <summary>What was given back is used again.</summary>
    UsedAfterFree = 0x66,

    /// <summary>What still holds something is freed, or used for something else.</summary>
    StillInUse = 0x67,
}
