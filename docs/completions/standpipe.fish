# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_standpipe_global_optspecs
    string join \n api= json h/help V/version
end

function __fish_standpipe_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_standpipe_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_standpipe_using_subcommand
    set -l cmd (__fish_standpipe_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c standpipe -n "__fish_standpipe_needs_command" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_needs_command" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_needs_command" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "serve" -d 'Run the daemon'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "keep" -d 'Hold file descriptors for a daemon, and restart it when it dies'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "upgrade" -d 'Put the binary on disk in place of the running daemon'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "apply" -d 'Make the host offer what a file says, and nothing else'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "vm" -d 'VMs and their slots'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "disk" -d 'Volumes'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "portal" -d 'Addresses that iSCSI initiators connect to'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "target" -d 'iSCSI targets: volumes for other hosts'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "network" -d 'Networks'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "nic" -d 'Ports of VMs on networks'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "status" -d 'Show what is going on'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "qemu-args" -d 'Print what to add to a QEMU command line for a VM'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "libvirt-xml" -d 'Print what to add to a libvirt domain for a VM'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c standpipe -n "__fish_standpipe_needs_command" -f -a "man" -d 'Print the man page, or write the pages of all commands'
complete -c standpipe -n "__fish_standpipe_using_subcommand serve" -l config -d 'A site to take over' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand serve" -l state-dir -d 'Where the daemon keeps what it must not forget' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand serve" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand serve" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand serve" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand keep" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand keep" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand keep" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand keep" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand upgrade" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand upgrade" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand upgrade" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand upgrade" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand apply" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand apply" -l dry-run -d 'Only say what would be done'
complete -c standpipe -n "__fish_standpipe_using_subcommand apply" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand apply" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -f -a "add" -d 'Add a VM with its slots'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -f -a "import" -d 'Make a VM, its volumes and its slots out of an appliance (OVA or OVF)'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -f -a "rm" -d 'Remove a VM\'s slots; its volumes stay'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -f -a "list" -d 'List all VMs'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and not __fish_seen_subcommand_from add import rm list show" -f -a "show" -d 'Show a VM and its slots'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l user -d 'The user that runs its QEMU and is to own the sockets' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l memory -d 'The guest\'s memory, for `qemu-args`' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l cpus -d 'The guest\'s processors, for `qemu-args`' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l scsi -d 'A virtio-scsi slot with these volumes as LUN 0, 1, …; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l blk -d 'A virtio-blk slot with this volume; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l pvscsi -d 'A pvscsi slot with these volumes as target 0, 1, …; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l nic -d 'A slot on this network, of model virtio-net if none is given; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l queues -d 'Queues of each slot whose model has a choice' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from add" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l store -d 'Keep the volumes in this store; can be left out if there is one store' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l directory -d 'Keep the volumes as files in this directory, outside of any store' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l name -d 'The VM\'s name here; of several VMs THEIRS=NAME for each. By default the one in the package, in small letters' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l network -d 'The network for a network of the package, or for all that are not named; may be repeated. By default the one of the same name' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l disks -d 'What disks become whose controller is not served here' -r -f -a "pvscsi\t''
virtio-scsi\t''
virtio-blk\t''"
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l nics -d 'What NICs become whose model is not served here' -r -f -a "virtio-net\t''
vmxnet3\t''
e1000\t''
e1000-82545em\t''
e1000e\t''
vlance\t''
flexible\t''
am79c973\t''"
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l mac -d 'The address of a NIC whose address the package does not give; may be repeated. Of several VMs VM.SLOT=ADDRESS' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l configuration -d 'The size of the VM, if the package has several to choose from' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l user -d 'The user that runs its QEMU and is to own the sockets' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l no-msix -d 'Leave MSI-X out of e1000e, vmxnet3 and pvscsi, so that they can be unplugged while the guest runs'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l dry-run -d 'Only say what would be made'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from import" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from rm" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from rm" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from list" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from show" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from show" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand vm; and __fish_seen_subcommand_from show" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "create" -d 'Make a volume'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "list" -d 'List all volumes'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "resize" -d 'Grow a volume; a running guest sees it'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "set" -d 'Change whether a volume is shared, or its threshold, while guests run'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "path" -d 'Set how good the path through a SCSI slot to its volumes is'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "clear-reservations" -d 'Take all reservations and registrations away from a volume'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "rm" -d 'Remove a volume; its data stays unless --delete-data is given'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "import" -d 'Replace a volume\'s bytes by a raw image or a VMDK'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "export" -d 'Copy a volume\'s bytes to a raw image'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "attach" -d 'Plug a volume into a virtio-scsi or pvscsi slot, also of a running guest'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and not __fish_seen_subcommand_from create list resize set path clear-reservations rm import export attach detach" -f -a "detach" -d 'Unplug a volume from a virtio-scsi or pvscsi slot, also of a running guest'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l store -d 'Keep it in this store' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l path -d 'A file or block device of the host; a missing file is made' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l size -d 'Such as 20GiB; only for --path it can be left out' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l kind -d 'What guests see: a disk, or a CD-ROM with an ISO image in it' -r -f -a "disk\t'A direct access block device'
cdrom\t'A CD or DVD drive with a medium in it: read-only, removable, blocks of 2048 bytes'"
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l block-size -d '512 or 4096; 512 if nothing is said, and 2048 for a CD-ROM' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l physical-block-size -d '512 or 4096; by default what the store says' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l thin-threshold -d 'Warn the users when so much of the size is allocated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l null -d 'Reads give zeros, writes are forgotten; for benchmarks'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l read-only -d 'Guests cannot write to it'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l shared -d 'Several SCSI slots and iSCSI targets may use it'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l removable -d 'Guests see a medium that can be taken out'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from list" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from resize" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from resize" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from resize" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from resize" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from set" -l shared -d 'Whether several SCSI slots and iSCSI targets may use it' -r -f -a "true\t''
false\t''"
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from set" -l thin-threshold -d 'A share such as 80%, or none' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from set" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from set" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from set" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from path" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from path" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from path" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from path" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from clear-reservations" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from clear-reservations" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from clear-reservations" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from clear-reservations" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from rm" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from rm" -l delete-data -d 'Also delete the volume\'s file'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from rm" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from import" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from import" -l on-server -d 'Let the daemon read the file: quicker for sparse images'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from import" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from import" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from export" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from export" -l on-server -d 'Let the daemon write the file: quicker for sparse volumes'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from export" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from export" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from attach" -l lun -d 'LUN of target 0, or of another; by default the first of target 0 that is free' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from attach" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from attach" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from attach" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from attach" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from detach" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from detach" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from detach" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand disk; and __fish_seen_subcommand_from detach" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -f -a "add" -d 'Listen for initiators at an address'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -f -a "list" -d 'List all portals'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -f -a "change" -d 'Give a portal another address; connections of the old one go on'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -f -a "rm" -d 'Remove a portal that no target is at'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and not __fish_seen_subcommand_from add list change rm remove" -f -a "remove" -d 'Remove a portal that no target is at'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from add" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from add" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from add" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from list" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from change" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from change" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from change" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from change" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from rm" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from rm" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from remove" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from remove" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand portal; and __fish_seen_subcommand_from remove" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -f -a "add" -d 'Add a target'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -f -a "list" -d 'List all targets'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -f -a "show" -d 'Show a target, who may log in, and its sessions'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -f -a "change" -d 'Change a target; sessions that it still allows go on'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -f -a "reload" -d 'Have a target read its secrets again, after their files were changed'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -f -a "rm" -d 'Remove a target; its sessions end, its volumes stay'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and not __fish_seen_subcommand_from add list show change reload rm remove" -f -a "remove" -d 'Remove a target; its sessions end, its volumes stay'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l iqn -d 'Its name for initiators: iqn., a year and month in which you had a domain, the domain from its end, a colon and what you like' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l portal -d 'Be at this portal; may be repeated. The state of the path is active, non-optimized or standby' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l lun -d 'Offer this volume; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l sessions-max -d 'Sessions at a time, 1 to 1024' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l allow -d 'This initiator may log in; the options below are for it alone then' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l mask -d 'The LUNs that it sees; by default all' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l chap -d 'The user name by which initiators prove who they are (CHAP)' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l secret-file -d 'The file of that user\'s secret' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l mutual -d 'The user name by which the target proves itself to them' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l mutual-secret-file -d 'The file of its secret' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l open -d 'Also initiators that are not named may log in, to all LUNs'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from add" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from list" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from show" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from show" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from show" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l portal -d 'Be at this portal; may be repeated. The state of the path is active, non-optimized or standby' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l lun -d 'Offer this volume; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l sessions-max -d 'Sessions at a time, 1 to 1024' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l allow -d 'This initiator may log in; the options below are for it alone then' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l mask -d 'The LUNs that it sees; by default all' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l chap -d 'The user name by which initiators prove who they are (CHAP)' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l secret-file -d 'The file of that user\'s secret' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l mutual -d 'The user name by which the target proves itself to them' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l mutual-secret-file -d 'The file of its secret' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l leave -d 'Leave this portal; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l detach -d 'Take this LUN away; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l disallow -d 'This initiator may log in no more; may be repeated' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l open -d 'Also initiators that are not named may log in, to all LUNs'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l closed -d 'Only initiators that are named may log in'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l no-chap -d 'Initiators need not prove who they are, unless their own entry says so'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l no-mutual -d 'The target does not prove itself, unless an entry says so'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from change" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from reload" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from reload" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from reload" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from reload" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from rm" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from rm" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from remove" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from remove" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand target; and __fish_seen_subcommand_from remove" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and not __fish_seen_subcommand_from add list rm" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and not __fish_seen_subcommand_from add list rm" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and not __fish_seen_subcommand_from add list rm" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and not __fish_seen_subcommand_from add list rm" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and not __fish_seen_subcommand_from add list rm" -f -a "add" -d 'Add a network'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and not __fish_seen_subcommand_from add list rm" -f -a "list" -d 'List all networks'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and not __fish_seen_subcommand_from add list rm" -f -a "rm" -d 'Remove a network that no slot is on'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -l mtu -r
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -l flood-limit-pps -d 'Broadcast, multicast and unknown frames per second that a port may flood' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -l age-seconds -d 'Forget a silent address after this long' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -l tap -d 'Connect the host with this TAP device, as uplink `host`' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -l vlan -d 'The uplink\'s access VLAN' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from add" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from list" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from rm" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from rm" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand network; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and not __fish_seen_subcommand_from set" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and not __fish_seen_subcommand_from set" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and not __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and not __fish_seen_subcommand_from set" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and not __fish_seen_subcommand_from set" -f -a "set" -d 'Change a slot\'s network or VLANs while the guest runs'
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and __fish_seen_subcommand_from set" -l network -d 'Move it to this network' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and __fish_seen_subcommand_from set" -l vlan -d 'Access VLAN' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and __fish_seen_subcommand_from set" -l trunk -d 'VLANs that pass tagged' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and __fish_seen_subcommand_from set" -l native -d 'VLAN of untagged frames on a trunk' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and __fish_seen_subcommand_from set" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and __fish_seen_subcommand_from set" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand nic; and __fish_seen_subcommand_from set" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand status" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand status" -l watch -d 'Show it again every second, until interrupted'
complete -c standpipe -n "__fish_standpipe_using_subcommand status" -l counters -d 'Show every counter'
complete -c standpipe -n "__fish_standpipe_using_subcommand status" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand status" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand status" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand qemu-args" -l memory -d 'The guest\'s memory; without it what the site says, or 1G' -r
complete -c standpipe -n "__fish_standpipe_using_subcommand qemu-args" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand qemu-args" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand qemu-args" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c standpipe -n "__fish_standpipe_using_subcommand qemu-args" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand libvirt-xml" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand libvirt-xml" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand libvirt-xml" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand libvirt-xml" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand completions" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand completions" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand completions" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand completions" -s V -l version -d 'Print version'
complete -c standpipe -n "__fish_standpipe_using_subcommand man" -l directory -d 'Write one page a command into this directory' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand man" -l api -d 'The daemon\'s API socket' -r -F
complete -c standpipe -n "__fish_standpipe_using_subcommand man" -l json -d 'Print JSON'
complete -c standpipe -n "__fish_standpipe_using_subcommand man" -s h -l help -d 'Print help'
complete -c standpipe -n "__fish_standpipe_using_subcommand man" -s V -l version -d 'Print version'
